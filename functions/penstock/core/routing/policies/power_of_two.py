"""The less loaded of two that chance has chosen (Mitzenmacher, 2001)."""

from __future__ import annotations

import random
from collections.abc import Sequence

from penstock.core.routing.place import Place
from penstock.schema.request import Request


def order(places: Sequence[Place], request: Request) -> list[Place]:
    """The less loaded of two first; the others by their load, should it fail."""
    rest = sorted(places, key=lambda place: (place.load, random.random()))
    if len(rest) > 2:  # else both are looked at anyway
        first = min(random.sample(rest, 2), key=lambda place: place.load)
        rest.remove(first)
        rest.insert(0, first)
    return rest
