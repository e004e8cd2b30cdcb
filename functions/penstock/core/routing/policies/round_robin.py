"""In turn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from penstock.core.routing.place import Place
from penstock.schema.request import Request

_turns: defaultdict[str, int] = defaultdict(int)


def order(places: Sequence[Place], request: Request) -> list[Place]:
    """The next place first, and those after it; a place of weight 2 has two turns in each round."""
    turns = [place for place in places for _ in range(place.deployment.weight)]
    at = _turns[request.model] % len(turns)
    _turns[request.model] += 1
    return list(dict.fromkeys(turns[at:] + turns[:at]))
