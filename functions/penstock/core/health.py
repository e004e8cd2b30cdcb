"""Looks whether places are there, where no request has shown it: one process does, and tells all others."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import NamedTuple

from penstock.core.chore import Chore
from penstock.core.noticeboard import Noticeboard
from penstock.core.registry import ModelRegistry
from penstock.core.routing.router import Router
from penstock.errors import UpstreamError, UpstreamTimeout
from penstock.schema.model import Deployment, Registry
from penstock.schema.notice import DOWN, HEALTH, UP

log = logging.getLogger("penstock.routing")


class Round(NamedTuple):
    """What one round has found: the registry, and how many providers are down."""

    registry: Registry
    down: int


class Prober(Chore):
    """Looks once, or every ``interval`` seconds where it has the duty. A look may take ``timeout`` seconds; a place
    that failed ``unhealthy_after`` looks in a row is down.

    What has served a request since the last look is not looked at, nor what sleeps, nor a worker: its agent speaks.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        router: Router,
        *,
        interval: float = 30.0,
        timeout: float = 10.0,
        unhealthy_after: int = 2,
        enabled: bool = True,
    ) -> None:
        super().__init__(interval)
        assert router.board is not None
        self._registry = registry
        self._router = router
        self._board: Noticeboard = router.board
        self._interval = interval
        self._timeout = timeout
        self._unhealthy_after = unhealthy_after
        self._enabled = enabled
        self._failures: dict[str, int] = {}

    async def turn(self) -> object:
        """Look, unless another process does."""
        return await self._board.take("health", 2.5 * self._interval) and await self.run()

    async def run(self) -> Round:
        """Look for new models, and at every provider unless that is switched off. Raises ``StateError``."""
        registry = await self._registry.refresh()
        await self._board.read()
        places = self._registry.providers() if self._enabled else []
        await asyncio.gather(*map(self._look, places))
        self._failures = {place.provider: self._failures.get(place.provider, 0) for place in places}
        await self._board.settled()
        return Round(registry, sum(count >= self._unhealthy_after for count in self._failures.values()))

    async def _look(self, place: Deployment) -> None:
        """Look at one provider, by one of its places, and tell the others what is news to them."""
        if place.cold_start is not None:
            return
        problem: UpstreamError | None = None
        if not self._router.served_since(place, time.monotonic() - self._interval):
            try:
                await self._registry.connection(place).probe(asyncio.get_running_loop().time() + self._timeout)
            except UpstreamTimeout as error:
                if self._router.under_way(place):
                    return  # it may well be at work for us
                problem = error
            except UpstreamError as error:
                problem = error
        failures = self._failures[place.provider] = self._failures.get(place.provider, 0) + 1 if problem else 0
        told = self._router.told(place, HEALTH)
        if problem is not None and failures >= self._unhealthy_after:
            if told is None or told.state != DOWN:
                log.warning("%s is down: %s", place.provider, problem)
            self._router.tell(place, HEALTH, DOWN, 3 * self._interval, str(problem))
        elif problem is None and told is not None and told.state == DOWN:
            log.info("%s is up again", place.provider)
            self._router.tell(place, HEALTH, UP, 3 * self._interval)
