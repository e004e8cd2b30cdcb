"""The cache of answers: what was answered before is told again, and of many who ask for the same, one is served."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from random import getrandbits
from typing import Any

from penstock.core.cache.cache import Cache
from penstock.core.cache.kept import Kept, RecordingRelay, decode, is_whole
from penstock.core.cache.wishes import is_safe, key_for, may_be_kept
from penstock.core.counters import Counter
from penstock.errors import CallerError, NotCached
from penstock.schema.freshness import BYPASS, HIT, MISS, USUAL, Freshness
from penstock.schema.request import Request

LEASE = 6.0
"""Seconds after which the other processes do not believe any more that a dead one brings an answer."""
RENEWAL = 2.0
LOOK, LONGEST_LOOK = 0.05, 0.5
"""Seconds between two looks at whether another process has brought it."""

REQUESTS = Counter(
    "penstock_cache_requests_total", "Requests that a cache of answers was asked for, by what came of it.", ("result",)
)
FILLS = Counter("penstock_cache_fills_total", "Answers that were made for the cache, by how that ended.", ("ended",))
WAITS = Counter("penstock_cache_waits_total", "Requests that waited for another's answer.", ("ended",))

_LEFT, _FAILED, _SLOW = "left", "failed", "slow"


class Flight:
    """An answer that is being brought, and those who wait for it."""

    __slots__ = ("done", "filler", "renewal")

    def __init__(self) -> None:
        self.filler = f"{getrandbits(64):016x}"
        self.done: asyncio.Future[Kept | str] = asyncio.get_running_loop().create_future()
        self.renewal: asyncio.Task[None] | None = None

    def land(self, what: Kept | str) -> None:
        """Tell those who wait."""
        if self.renewal is not None:
            self.renewal.cancel()
        if not self.done.done():
            self.done.set_result(what)


class Turn:
    """What the cache has for one request: an answer that is ``kept``, or else a place for the one that it will get."""

    __slots__ = ("_answers", "_filled", "_flight", "_key", "_relay", "_request", "kept")

    def __init__(
        self, answers: Answers, request: Request, key: str, *, kept: Kept | None = None, flight: Flight | None = None
    ) -> None:
        self._answers = answers
        self._request = request
        self._key = key
        self._flight = flight
        self._relay: RecordingRelay | None = None
        self._filled: Kept | None = None
        self.kept = kept

    def relay(self) -> RecordingRelay:
        """What a stream of the answer passes through, to be kept."""
        self._relay = RecordingRelay(self._request.model, show_usage=self._request.wants_usage)
        return self._relay

    def streamed(self) -> None:
        """The stream came to its end."""
        if self._relay is not None and self._relay.payloads is not None:
            self._fill(self._relay.payloads, stream=True)

    def answered(self, body: bytes) -> None:
        """A whole answer came."""
        self._fill([body], stream=False)

    def end(self, error: BaseException | None) -> None:
        """The request is over; what it brought is kept, unless it failed."""
        if self.kept is None:
            self._answers.end(self._key, self._flight, self._filled if error is None else None, error)

    def _fill(self, payloads: list[bytes], *, stream: bool) -> None:
        request = self._request
        if is_whole(payloads, request):
            dropped = tuple(request.dropped)
            self._filled = Kept(time.time(), request.deployment, request.provider, dropped, stream, payloads)


class Answers:
    """The answers of one process's cache, which may be shared with others.

    ``wait`` is the time that a request waits at most for another that brings the same answer.
    """

    def __init__(self, cache: Cache, *, shared_between: str, everything: bool, wait: float) -> None:
        self.cache = cache
        self._shared_between = shared_between
        self._everything = everything
        self._wait = wait
        self._flights: dict[str, Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._hits = self._misses = 0

    @property
    def hit_rate(self) -> float:
        """The share of requests that found an answer, of those that looked for one; 0 before the first."""
        return self._hits / (self._hits + self._misses) if self._hits else 0.0

    async def turn(self, request: Request) -> Turn | None:
        """What there is for a request; ``None`` if the cache is nothing for it. Raises ``NotCached`` where that is all
        that its caller wanted.
        """
        wish = request.freshness or USUAL
        eligible = wish.store and may_be_kept(request) and (self._everything or wish.asked or is_safe(request))
        if not eligible or wish.max_age == 0:
            request.cache = BYPASS
            REQUESTS.add("bypass")
            if wish.only_kept:
                raise NotCached("There can be no kept answer to this request: 'only-if-cached' asked for one.")
            return Turn(self, request, key_for(request, self._shared_between)) if eligible else None
        turn = await self._look(request, wish)
        if turn.kept is not None:
            self._hits += 1
            request.cache, request.age = HIT, max(0.0, time.time() - turn.kept.at)
        else:
            self._misses += 1
            request.cache = MISS
        REQUESTS.add(request.cache.lower())
        return turn

    def end(self, key: str, flight: Flight | None, filled: Kept | None, error: BaseException | None) -> None:
        """Keep what was brought, and let those go on who wait for it."""
        ended = "kept" if filled is not None else "unfit" if error is None else "failed"
        FILLS.add(ended)
        if filled is None:
            if flight is not None:
                gone = isinstance(error, (asyncio.CancelledError, GeneratorExit, CallerError))
                self._land(key, flight, _LEFT if gone else _FAILED)
            return
        if flight is not None:
            flight.land(filled)
        self._later(self._keep(key, flight, filled))

    async def settled(self) -> None:
        """Wait until all that was brought is kept."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def _look(self, request: Request, wish: Freshness) -> Turn:
        """A kept answer that is fresh enough, that of another request for the same, or a place for a new one."""
        key = key_for(request, self._shared_between)
        oldest = time.time() - (self.cache.ttl if wish.max_age is None else wish.max_age)
        if (kept := await self._find(key, oldest)) is not None:
            return Turn(self, request, key, kept=kept)
        if wish.only_kept:
            request.cache = MISS
            raise NotCached("No answer to this request is kept, and 'only-if-cached' wants no other.")
        now = asyncio.get_running_loop().time()
        until = now + min(self._wait, max(0.0, request.deadline - now) / 2)
        while (flight := self._flights.get(key)) is not None:
            came = await self._awaited(flight, until)
            WAITS.add("served" if isinstance(came, Kept) else came)
            if isinstance(came, Kept):
                return Turn(self, request, key, kept=came)
            if came != _LEFT:
                return Turn(self, request, key)  # by itself: what failed for one need not for the next
        return await self._lead(request, key, oldest, until)

    async def _lead(self, request: Request, key: str, oldest: float, until: float) -> Turn:
        """Be the one of this process who brings the answer; another process may be at it already."""
        flight = self._flights[key] = Flight()
        if not self.cache.shared:
            return Turn(self, request, key, flight=flight)
        loop, pause = asyncio.get_running_loop(), LOOK
        try:
            while not await self.cache.claim(key, flight.filler, seconds=LEASE, stale=oldest):
                if (kept := await self._find(key, oldest, again=True)) is not None:
                    WAITS.add("served")
                    self._land(key, flight, kept)
                    return Turn(self, request, key, kept=kept)
                if loop.time() >= until:
                    WAITS.add(_SLOW)
                    return Turn(self, request, key, flight=flight)
                await asyncio.sleep(min(pause, max(0.0, until - loop.time())))
                pause = min(2 * pause, LONGEST_LOOK)
        except BaseException:
            self._land(key, flight, _LEFT)
            raise
        flight.renewal = asyncio.ensure_future(self._renew(key, flight, oldest))
        return Turn(self, request, key, flight=flight)

    async def _awaited(self, flight: Flight, until: float) -> Kept | str:
        try:
            async with asyncio.timeout_at(until):
                return await asyncio.shield(flight.done)
        except TimeoutError:
            return _SLOW

    async def _find(self, key: str, oldest: float, *, again: bool = False) -> Kept | None:
        data = await self.cache.get(key, counted=not again)
        kept = decode(data) if data is not None else None
        return kept if kept is not None and kept.at >= oldest else None

    async def _renew(self, key: str, flight: Flight, oldest: float) -> None:
        """Have the other processes believe that the answer is on its way, while it is."""
        while True:
            await asyncio.sleep(RENEWAL)
            await self.cache.claim(key, flight.filler, seconds=LEASE, stale=oldest)

    async def _keep(self, key: str, flight: Flight | None, filled: Kept) -> None:
        try:
            everywhere = await self.cache.put(key, filled.encode())
        finally:
            self._forget(key, flight)
        if not everywhere and flight is not None:
            await self.cache.release(key, flight.filler)

    def _land(self, key: str, flight: Flight, what: Kept | str) -> None:
        """Tell those who wait what came of it, and the other processes that it is over."""
        flight.land(what)
        self._forget(key, flight)
        if self.cache.shared:
            self._later(self.cache.release(key, flight.filler))

    def _forget(self, key: str, flight: Flight | None) -> None:
        if flight is not None and self._flights.get(key) is flight:
            del self._flights[key]

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
