"""How places are, in one word: what dialects tell of providers, services and models."""

from __future__ import annotations

import time
from collections.abc import Sequence

from penstock.core.routing.place import Place
from penstock.schema.notice import CLOSED, OPEN

HEALTHY, DEGRADED, UNHEALTHY = "healthy", "degraded", "unhealthy"


def down(places: Sequence[Place]) -> bool:
    """Whether whoever looked last at these places found none of them there."""
    now = time.monotonic()
    return all(now < place.down_until for place in places)


def condition(places: Sequence[Place]) -> str:
    """``unhealthy`` when every place is broken or down, ``healthy`` when none is, else ``degraded``.

    A place that was broken and is tried again is neither.
    """
    now = time.monotonic()
    states = [OPEN if now < place.down_until else place.breaker.state(now) for place in places]
    if all(state == OPEN for state in states):
        return UNHEALTHY
    return HEALTHY if all(state == CLOSED for state in states) else DEGRADED
