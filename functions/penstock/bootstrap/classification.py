"""The aliases that configuration names, with the classifiers that choose for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock import plugs
from penstock.core.registry import ModelRegistry
from penstock.errors import SettingsError
from penstock.settings import Settings, fault

if TYPE_CHECKING:
    from penstock.core.classification.chooser import Classification


def build_classification(settings: Settings, registry: ModelRegistry) -> Classification | None:
    """Who chooses models for prompts; ``None`` where nothing is to be chosen. Raises ``SettingsError``."""
    section = settings.document.classification
    if section is None or not section.aliases:
        return None
    from penstock.core.classification.chooser import Alias, Classification  # noqa: PLC0415 - patterns, which most gateways start without
    from penstock.core.classification.sensitive import Sensitive  # noqa: PLC0415

    aliases = {}
    for name, alias in section.aliases.items():
        place: list[int | str] = ["classification", "aliases", name]
        try:
            aliases[name] = Alias(alias, plugs.load("classifiers", alias.classifier).connect(alias))
        except SettingsError as error:
            raise fault(settings.source, [*place, "classifier"], error.message) from None
        except ValueError as error:
            key, _, words = str(error).partition(": ")
            raise fault(settings.source, [*place, key], words) from None
    return Classification(aliases, Sensitive(section.sensitive), registry, section.local)
