"""Wakes places that sleep while nobody calls them: one process does for each place, requests wait for its word."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from penstock.core.counters import Counter
from penstock.core.ports import Connection
from penstock.core.routing.place import Place
from penstock.core.routing.router import Router
from penstock.errors import UpstreamError, UpstreamTimeout
from penstock.schema.model import ColdStart, Deployment
from penstock.schema.notice import COLD, WARMING, WARMTH
from penstock.schema.request import Request

log = logging.getLogger("penstock.routing")

LEASE = 30.0
"""Seconds for which one process is the waker; it goes on being it while it lives."""
PROBE = 10.0
"""Seconds that one look may take: a server that is being started for it holds it back."""
AGAIN = 1.0
"""Seconds between two looks."""
TOLD = 5.0
"""Seconds between two words to a caller who waits."""
SPARED = 60.0
"""Seconds for which a place that did not wake up is tried after all others."""

WAITS = Counter(
    "penstock_cold_waits_total",
    "Requests that waited for a place to wake up, by how that ended: warm, cold, left.",
    ("provider", "result"),
)
WAITED = Counter(
    "penstock_cold_wait_seconds_total", "Seconds that requests waited for a place to wake up.", ("provider",)
)
STARTS = Counter("penstock_cold_starts_total", "Places that this process woke up, or tried to.", ("provider", "result"))

Start = Callable[[Deployment, float], Awaitable[None]]
"""Makes a place start; by a time on the loop's clock. Raises ``UpstreamError`` if it could not be told."""


class Warming:
    """Knows who is being woken. ``start`` sends the word that wakes a place, where a word is needed; the check of its
    health over its ``connection`` shows whether it is awake.
    """

    def __init__(
        self, router: Router, connection: Callable[[Deployment], Connection], start: Start | None = None
    ) -> None:
        self._router = router
        self._connection = connection
        self._start = start
        self._waking: dict[str, asyncio.Task[None]] = {}

    def wake(self, place: Place) -> asyncio.Task[None]:
        """Have a place woken; all who ask meanwhile share one task. It ends with ``UpstreamTimeout`` in vain."""
        name = place.deployment.id
        waking = self._waking.get(name)
        if waking is None:
            waking = self._waking[name] = asyncio.ensure_future(self._wake(place))
            waking.add_done_callback(lambda done: self._woken(name, done))
        return waking

    async def wait(self, place: Place, request: Request) -> None:
        """Have a place woken, and return once it is; the caller of a stream is told how long it takes.

        Raises ``UpstreamTimeout`` once the place's budget is spent, or the request's own time.
        """
        cold = _cold(place)
        began = time.monotonic()
        now = asyncio.get_running_loop().time()
        end = min(request.deadline, now + cold.budget)
        result = "left"
        try:
            await self._wait(place, request, end)
            result = "warm"
        except UpstreamTimeout:
            result = "cold"
            raise UpstreamTimeout(_in_vain(place, end - now), provider=place.deployment.provider) from None
        finally:
            WAITS.add(place.deployment.provider, result)
            WAITED.add(place.deployment.provider, n=time.monotonic() - began)

    async def close(self) -> None:
        """Wake nobody any more; idempotent."""
        for waking in (waiting := list(self._waking.values())):
            waking.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    async def _wait(self, place: Place, request: Request, end: float) -> None:
        loop = asyncio.get_running_loop()
        waking = self.wake(place)
        while not waking.done():
            if loop.time() >= end:
                raise UpstreamTimeout("it sleeps")
            if request.comment is not None:
                request.comment(_words(place))
            await asyncio.wait({waking}, timeout=min(TOLD, end - loop.time()))
        waking.result()

    def _woken(self, name: str, done: asyncio.Task[None]) -> None:
        del self._waking[name]
        if not done.cancelled() and (error := done.exception()) is not None:
            log.warning("%s", error)

    async def _wake(self, place: Place) -> None:
        """Be the one who wakes the place, or see what becomes of the other's work."""
        cold, name, board = _cold(place), place.deployment.id, self._router.board
        loop = asyncio.get_running_loop()
        end = loop.time() + cold.budget
        started, mine_until = False, 0.0
        while loop.time() < end:
            if loop.time() > mine_until - LEASE / 2 and (board is None or await board.take(f"wake {name}", LEASE)):
                mine_until = loop.time() + LEASE
            if loop.time() < mine_until:
                if place.warming_since is None:
                    place.warming_since = time.monotonic()
                    self._router.tell(place.deployment, WARMTH, WARMING, cold.budget)
                if await self._rouse(place, end, started=started):
                    STARTS.add(place.deployment.provider, "warm")
                    self._router.awake(place)
                    return
                started = True
            else:
                assert board is not None
                await board.read()
                if not place.cold(time.monotonic()):
                    return
            await asyncio.sleep(min(AGAIN, max(0.0, end - loop.time())))
        STARTS.add(place.deployment.provider, "cold")
        place.warming_since = None
        place.busy_until = time.monotonic() + SPARED
        self._router.tell(place.deployment, WARMTH, COLD, AGAIN)
        raise UpstreamTimeout(_in_vain(place, cold.budget))

    async def _rouse(self, place: Place, end: float, *, started: bool) -> bool:
        """Send the word that wakes it, once, and look whether it is awake."""
        by = min(end, asyncio.get_running_loop().time() + PROBE)
        try:
            if not started and self._start is not None and _cold(place).wake_url:
                await self._start(place.deployment, by)
            await self._connection(place.deployment).probe(by)
        except UpstreamError as error:
            log.debug("%s is not awake yet: %s", place.deployment.provider, error)
            return False
        return True


def _cold(place: Place) -> ColdStart:
    cold = place.deployment.cold_start
    assert cold is not None
    return cold


def _in_vain(place: Place, seconds: float) -> str:
    return f"{place.deployment.provider} did not wake up within {seconds:.3g} s"


def _words(place: Place) -> str:
    """What is true of the wait now."""
    since = 0.0 if place.warming_since is None else time.monotonic() - place.warming_since
    return f"warming {place.deployment.model}, {since:.0f}s of about {_cold(place).seconds:.0f}s"
