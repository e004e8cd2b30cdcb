"""Puts the deployments of a model in order for one request, and goes through them while there is time."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from importlib import import_module

from penstock.core.routing.breaker import Bounds
from penstock.core.routing.place import Place
from penstock.errors import UpstreamError
from penstock.schema.model import Deployment
from penstock.schema.request import Request

POLICIES = ("affinity", "power_of_two", "least_latency", "round_robin", "weighted")
CAPACITY = 10_000
"""Places that are remembered: workers come and go, each under its own name."""
LONGEST = 30.0
"""Seconds of a pause before a retry at most."""

Policy = Callable[[Sequence[Place], Request], list[Place]]


class Router:
    """Remembers every deployment that it has seen. ``policy`` names a module of ``policies``."""

    def __init__(self, policy: str = POLICIES[0], bounds: Bounds | None = None) -> None:
        self._policy: Policy = import_module(f"penstock.core.routing.policies.{policy}").order
        self._bounds = bounds or Bounds()
        self._places: dict[str, Place] = {}

    def place(self, deployment: Deployment) -> Place:
        """What is known of a deployment."""
        place = self._places.get(deployment.id)
        if place is None or place.deployment.base_url != deployment.base_url:  # a worker that came back elsewhere
            if len(self._places) >= CAPACITY:
                self._places = {name: known for name, known in self._places.items() if known.under_way}
            place = self._places[deployment.id] = Place(deployment, self._bounds)
        place.deployment = deployment  # as the registry describes it now
        return place

    def order(self, deployments: Sequence[Deployment], request: Request) -> list[Place]:
        """Who is tried in which order: forced ones, then by priority, among equals as the policy says.

        Places that are busy come after all others, those whose breaker is open not at all; but where nobody else is
        left they are tried all the same, those first whose time is over soonest: a guess is better than a refusal.
        """
        now = time.monotonic()
        places = [self.place(deployment) for deployment in deployments]
        if len(places) == 1:
            return places
        well = [place for place in places if place.available(now)]
        busy = [place for place in places if place not in well and place.breaker.admits(now)]
        ordered: list[Place] = []
        for rank in sorted({_rank(place) for place in well}):
            ordered += self._policy([place for place in well if _rank(place) == rank], request)
        ordered += sorted(busy, key=lambda place: place.busy_until)
        return ordered or sorted(places, key=lambda place: place.breaker.opened_until)


def _rank(place: Place) -> tuple[bool, int]:
    return not place.deployment.forced, place.deployment.priority


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
