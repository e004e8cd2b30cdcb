"""Settlements on their way to the store: each arrives once, however often the store is away."""

from __future__ import annotations

import asyncio
import logging

from penstock.core.counters import Counter
from penstock.core.ports import Store
from penstock.errors import StateError
from penstock.schema.meter import Settlement

log = logging.getLogger("penstock.limits")

BATCH = 100
RETRY = 1.0
CAPACITY = 20_000

SETTLED = Counter("penstock_limits_settled_total", "Holds that were settled.")
LATE = Counter("penstock_limits_settled_late_total", "Holds that had ended before they were settled.")


class Settler:
    """Settles holds soon, those that wait at the same time in one go."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[Settlement] = []
        self._flushing = asyncio.Lock()
        self._running: asyncio.Task[bool] | None = None
        self._again: asyncio.TimerHandle | None = None

    def check(self) -> None:
        """Raise ``StateError`` while so many settlements wait that no more should be caused."""
        if len(self._waiting) >= CAPACITY:
            raise StateError("Holds cannot be settled and their buffer is full; no new ones are made until they can.")

    @property
    def waits(self) -> bool:
        """Whether something is on its way."""
        return bool(self._waiting) and self._again is None

    def add(self, settlement: Settlement) -> None:
        """Take a settlement, to be written at once."""
        self._waiting.append(settlement)
        if (self._running is None or self._running.done()) and self._again is None:
            self._running = asyncio.ensure_future(self.flush())

    async def flush(self) -> bool:
        """Settle all that waits; ``False`` if the store would not (it is tried again)."""
        async with self._flushing:
            while self._waiting:
                batch = self._waiting[:BATCH]
                try:
                    ended = await self._store.settle(batch)
                except StateError as error:
                    log.error("settlements wait for the store: %s", error, extra={"waiting": len(self._waiting)})
                    if self._again is None:
                        self._again = asyncio.get_running_loop().call_later(RETRY, self._retry)
                    return False
                del self._waiting[: len(batch)]
                SETTLED.add(n=ended)
                LATE.add(n=len(batch) - ended)
        return True

    async def close(self) -> None:
        """Settle all that waits, or else say that the holds will expire."""
        done = await self.flush()
        if self._again is not None:
            self._again.cancel()
        if not done:
            log.error("holds were left to expire: the store is away", extra={"waiting": len(self._waiting)})

    def _retry(self) -> None:
        self._again = None
        self._running = asyncio.ensure_future(self.flush())
