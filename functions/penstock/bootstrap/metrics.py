"""Who tells how the gateway does."""

from __future__ import annotations

from penstock.core.ports import Store
from penstock.core.vitals import Vitals
from penstock.hardware import machine
from penstock.settings import Settings


def build_vitals(settings: Settings, store: Store) -> Vitals:
    """The numbers of the ledger; a provider that is configured is among them before it was called."""
    providers = [each.name for each in settings.document.providers or () if each.enabled]
    return Vitals(store, providers, machine)
