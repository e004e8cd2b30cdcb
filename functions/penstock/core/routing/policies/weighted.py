"""By chance, in proportion to the weights."""

from __future__ import annotations

import random
from collections.abc import Sequence

from penstock.core.routing.place import Place
from penstock.schema.request import Request


def order(places: Sequence[Place], request: Request) -> list[Place]:
    """A weighted shuffle: of each two places the heavier stands first as often as its weight says
    (Efraimidis and Spirakis, 2006).
    """
    return sorted(places, key=lambda place: random.random() ** (1 / place.deployment.weight), reverse=True)
