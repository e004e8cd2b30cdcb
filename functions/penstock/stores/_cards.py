"""A registry's cards as one JSON document: the form in which every store keeps them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields

from penstock.schema.model import ModelCard

_KNOWN = frozenset(field.name for field in fields(ModelCard))


def dump(cards: Sequence[ModelCard]) -> str:
    """The cards as a JSON array."""
    return json.dumps([asdict(card) for card in cards], separators=(",", ":"))


def load(text: str) -> tuple[ModelCard, ...]:
    """The cards of a JSON array; what a newer version added to them is passed over."""
    return tuple(
        ModelCard(**{name: value for name, value in card.items() if name in _KNOWN}) for card in json.loads(text)
    )
