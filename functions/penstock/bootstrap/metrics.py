"""Who tells how the gateway does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from penstock import telemetry
from penstock.core.counted import count
from penstock.core.ports import Store
from penstock.core.vitals import Vitals
from penstock.hardware import machine
from penstock.schema.outcome import Outcome
from penstock.settings import Settings

Tell = Callable[[Sequence[Outcome]], None]


def build_vitals(settings: Settings, store: Store) -> Vitals:
    """The numbers of the ledger; a provider that is configured is among them before it was called."""
    providers = [each.name for each in settings.document.providers or () if each.enabled]
    return Vitals(store, providers, machine)


def build_tell(settings: Settings) -> Tell:
    """Who is told of outcomes: counters and log."""
    listeners: list[Tell] = [count, telemetry.tell]

    def tell(batch: Sequence[Outcome]) -> None:
        for listener in listeners:
            listener(batch)

    return tell
