"""The caches of one process, and the chore of forgetting what has expired."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from penstock.core.cache.answers import Answers
from penstock.core.cache.cache import Cache
from penstock.core.chore import Chore
from penstock.core.ports.caching import CacheStore

AT_ONCE = 500


class Caches:
    """Answers and summaries; ``close`` lets go of what is ``behind`` them, where that is no store."""

    def __init__(
        self, answers: Answers, summaries: Cache, cleaner: Cleaner, behind: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self.answers = answers
        self.summaries = summaries
        self.cleaner = cleaner
        self._behind = behind

    @property
    def connected(self) -> bool | None:
        """Whether the server behind them answers; ``None`` where there is none."""
        return self.answers.cache.reached if self._behind is not None else None

    def shrink(self, share: float) -> int:
        """Keep that share of what is in memory; answers how many values went."""
        return self.answers.cache.shrink(share) + self.summaries.shrink(share)

    async def close(self) -> None:
        """Keep what was just brought, and let go of everything."""
        await self.cleaner.close()
        await self.answers.settled()
        if self._behind is not None:
            await self._behind()


class Cleaner(Chore):
    """Forgets what has expired; in a ``store`` that is a file also the oldest of what exceeds ``room`` bytes."""

    def __init__(self, caches: list[Cache], every: float, *, store: CacheStore | None, room: int) -> None:
        super().__init__(every)
        self._caches = caches
        self._store = store
        self._room = room

    async def turn(self) -> int:
        """Forget; answers how many values. Raises ``StateError``."""
        forgotten = sum(cache.sweep() for cache in self._caches)
        while self._store is not None:
            pruned = await self._store.prune_cached(time.time(), room=self._room, limit=AT_ONCE)
            forgotten += pruned
            if pruned < AT_ONCE:
                break
        return forgotten


def cache_status(caches: Caches | None) -> dict[str, Any]:
    """What callers are told of the cache of answers: whether there is one, how often it helps, how many it has here."""
    if caches is None:
        return {"enabled": False, "hit_rate": 0.0, "entries": 0}
    answers = caches.answers
    return {"enabled": True, "hit_rate": round(answers.hit_rate, 4), "entries": answers.cache.status().entries}
