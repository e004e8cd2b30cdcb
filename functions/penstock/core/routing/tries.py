"""Goes through the places for one request while there is time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from penstock.core.routing.place import Place
from penstock.errors import UpstreamError
from penstock.schema.request import Request

LONGEST = 30.0
"""Seconds of a pause before a retry at most."""


class Tries:
    """The places that one request is tried at: each once, then those that may be tried again, after a pause.

    A pause grows from ``retry_delay``, is never shorter than the place's own ``Retry-After``, and is not begun if it
    would end past the deadline.
    """

    def __init__(self, places: Sequence[Place], request: Request, attempts: int) -> None:
        self._places = list(places)
        self._request = request
        self._left = attempts
        self._coming = list(places)
        self._round = 0
        self._failed: dict[str, UpstreamError] = {}

    def failed(self, place: Place, error: UpstreamError) -> None:
        """The place could not answer."""
        self._failed[place.deployment.id] = error

    async def next(self) -> Place | None:
        """The place to try now, or ``None`` if there is none any more."""
        if self._left <= 0:
            return None
        if not self._coming:
            self._round += 1
            self._coming = [place for place in self._places if place.deployment.retries >= self._round]
            if not self._coming or not await self._pause():
                return None
        self._left -= 1
        return self._coming.pop(0)

    async def _pause(self) -> bool:
        """Wait before another round; ``False`` if there is no time for it."""
        pauses = {place.deployment.id: self._pause_of(place) for place in self._coming}
        self._coming.sort(key=lambda place: pauses[place.deployment.id])
        pause = pauses[self._coming[0].deployment.id]
        if asyncio.get_running_loop().time() + pause >= self._request.deadline:
            return False
        await asyncio.sleep(pause)
        return True

    def _pause_of(self, place: Place) -> float:
        backoff: float = min(place.deployment.retry_delay * 2 ** (self._round - 1), LONGEST)
        error = self._failed.get(place.deployment.id)
        floor = error.retry_after if error is not None and error.retry_after else 0.0
        return max(backoff * random.uniform(0.5, 1.0), floor)
