"""The quickest to its first token, as seen in real traffic."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.core.routing.place import Place
from penstock.schema.request import Request


def order(places: Sequence[Place], request: Request) -> list[Place]:
    """By the time to the first token that the calls under way make likely; one that was never tried comes first."""
    return sorted(places, key=lambda place: (place.ttft or 0.0) * (1 + place.load))
