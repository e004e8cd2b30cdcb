"""One cache: the memory of this process in front of what several of them share."""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from penstock.core.cache.memory import Memory
from penstock.core.counters import Counter, Gauge
from penstock.core.ports.caching import CacheBacking
from penstock.errors import RequestTooLarge, StateError

log = logging.getLogger("penstock.cache")

T = TypeVar("T")

PATIENCE = 0.5
"""Seconds for one call to what is behind: whoever asks could have had the answer made anew meanwhile."""
FAILURES = 3
"""So many in a row, and it is left alone for a while."""
PAUSE, LONGEST = 2.0, 30.0
SMALLEST = 256
"""Bytes from which on a value is compressed."""
LARGE = 128 * 1024
"""Bytes from which on that is done in a thread."""
RAW, ZLIB = b"\x00", b"\x01"

LOOKUPS = Counter(
    "penstock_cache_lookups_total",
    "Look-ups by what was found: memory, shared, nothing.",
    ("cache", "found"),
)
KEPT = Counter(
    "penstock_cache_kept_total", "Values that a cache was given, by whether all could hold it.", ("cache", "result")
)
EVICTED = Counter(
    "penstock_cache_evicted_total", "Values forgotten by this process's memory, by why.", ("cache", "reason")
)
FAILED = Counter("penstock_cache_backing_failures_total", "Calls to what processes share that failed.", ("cache",))
ENTRIES = Gauge("penstock_cache_entries", "Values in the memory of this process.", ("cache",))
BYTES = Gauge("penstock_cache_bytes", "Bytes that those take.", ("cache",))


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """What a cache has come to in this process."""

    entries: int
    bytes: int
    hits: int
    misses: int

    @property
    def hit_rate(self) -> float:
        """The share of look-ups that found something; 0 before the first."""
        return self.hits / (self.hits + self.misses) if self.hits else 0.0


class Cache:
    """Bytes under keys, for ``ttl`` seconds. Nobody waits long for it, and it never raises: what it cannot tell is not
    there. A key is a digest (``core/cache/keys``), never a prompt.

    ``backing`` is what other processes see as well; without one there is the memory of this one alone, of ``room``
    bytes and so many ``entries`` at most.
    """

    def __init__(
        self,
        name: str,
        *,
        room: int,
        ttl: float,
        compression: bool = True,
        backing: CacheBacking | None = None,
        entries: int | None = None,
    ) -> None:
        self.name = name
        self.ttl = ttl
        self.memory = Memory(room, entries)
        self._compression = compression
        self._backing = backing
        self._hits = self._misses = 0
        self._failures = 0
        self._away_until = 0.0
        self._tell()

    def succeed(self, before: Cache) -> None:
        """Have in memory what another has, if it may be as much."""
        if before.memory.bounds == self.memory.bounds:
            self.memory, self._hits, self._misses = before.memory, before._hits, before._misses

    @property
    def shared(self) -> bool:
        """Whether other processes see what is kept."""
        return self._backing is not None

    @property
    def reached(self) -> bool:
        """Whether what is behind has answered when it was last asked."""
        return self._failures == 0

    async def get(self, key: str, *, counted: bool = True) -> bytes | None:
        """The value; ``None`` if there is none."""
        if (packed := self.memory.find(key, time.time())) is not None:
            found = "memory"
        elif self._backing is not None and (packed := await self._from_behind(key)) is not None:
            found = "shared"
        value = await _unpacked(packed) if packed is not None else None
        if counted:
            self._hits += value is not None
            self._misses += value is None
            LOOKUPS.add(self.name, "nothing" if value is None else found)
        return value

    async def put(self, key: str, value: bytes, ttl: float | None = None) -> bool:
        """Keep a value for ``ttl`` seconds, or as long as is usual; ``False`` if other processes will not see it."""
        now = time.time()
        expires = now + (self.ttl if ttl is None else ttl)
        packed = await _packed(value) if self._compression and len(value) >= SMALLEST else RAW + value
        self._remember(key, packed, expires)
        result = "kept"
        if self._backing is not None:
            keep = partial(self._kept_behind, key, packed, now, expires)
            try:
                result = "kept" if await self._ask(keep, False) else "failed"
            except RequestTooLarge:
                result = "too_large"  # for others to see; this process has it all the same
        KEPT.add(self.name, result)
        return result == "kept"

    async def claim(self, key: str, filler: str, *, seconds: float, stale: float) -> bool:
        """Be the one of all processes who brings a value; ``True`` as well where nobody can tell."""
        if self._backing is None:
            return True
        now = time.time()
        claim = partial(self._backing.claim_fill, key, filler, now=now, until=now + seconds, stale=stale)
        return await self._ask(claim, True)

    async def release(self, key: str, filler: str) -> None:
        """Bring no value after all."""
        if self._backing is not None:
            await self._ask(partial(self._backing.release_fill, key, filler), None)

    def sweep(self) -> int:
        """Forget what has expired; answers how many."""
        return self._forgot(self.memory.sweep(time.time()), "expired")

    def shrink(self, share: float) -> int:
        """Leave no more than this share of what is held; answers how many went."""
        return self._forgot(self.memory.shrink(int(self.memory.size * share)), "memory")

    def status(self) -> CacheStatus:
        """What has become of it."""
        return CacheStatus(len(self.memory), self.memory.size, self._hits, self._misses)

    def _forgot(self, gone: int, reason: str) -> int:
        EVICTED.add(self.name, reason, n=gone)
        self._tell()
        return gone

    def _remember(self, key: str, packed: bytes, expires: float) -> None:
        self._forgot(self.memory.keep(key, packed, expires), "size")

    def _tell(self) -> None:
        ENTRIES.set(self.name, value=len(self.memory))
        BYTES.set(self.name, value=self.memory.size)

    async def _kept_behind(self, key: str, packed: bytes, now: float, expires: float) -> bool:
        assert self._backing is not None
        await self._backing.keep_cached(key, packed, now=now, expires=expires)
        return True

    async def _from_behind(self, key: str) -> bytes | None:
        assert self._backing is not None
        found = await self._ask(partial(self._backing.find_cached, key, now=time.time()), None)
        if found is None:
            return None
        self._remember(key, found.value, found.expires_at)
        return found.value

    async def _ask(self, call: Callable[[], Awaitable[T]], otherwise: T) -> T:
        """What is behind says, within its time; while it is away, at once what holds ``otherwise``."""
        now = time.monotonic()
        if now < self._away_until:
            return otherwise
        if self._failures >= FAILURES:
            self._away_until = now + PATIENCE  # this call is the probe: nobody else waits for one
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await call()
        except (StateError, TimeoutError) as error:
            self._failed(error)
            return otherwise
        self._failures, self._away_until = 0, 0.0
        return answer

    def _failed(self, error: Exception) -> None:
        FAILED.add(self.name)
        self._failures += 1
        if self._failures >= FAILURES:
            pause = min(PAUSE * 2 ** (self._failures - FAILURES), LONGEST)
            self._away_until = time.monotonic() + pause
            log.warning("the cache of %s goes on alone for %g s: %s", self.name, pause, error or "no answer in time")


async def _packed(value: bytes) -> bytes:
    if len(value) < LARGE:
        return ZLIB + zlib.compress(value, 1)
    return ZLIB + await asyncio.to_thread(zlib.compress, value, 1)


async def _unpacked(packed: bytes) -> bytes | None:
    """The value; ``None`` for what is none of ours."""
    try:
        if packed[:1] == RAW:
            return packed[1:]
        if len(packed) < LARGE:
            return zlib.decompress(packed[1:])
        return await asyncio.to_thread(zlib.decompress, packed[1:])
    except zlib.error:
        return None
