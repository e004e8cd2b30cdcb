"""Ends the holds of requests whose process died: their slots are free again, and what they may have cost is spent."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from penstock.core.counters import Counter
from penstock.core.ports import Store
from penstock.errors import StateError
from penstock.schema.meter import Hold
from penstock.schema.price import dollars

log = logging.getLogger("penstock.limits")

EVERY = 30.0
"""Seconds between two rounds of a process that lives long. A hold in somebody's way is ended by whom it hinders."""

LOST = Counter("penstock_limits_lost_total", "Holds that nobody settled, ended after their expiry.")


def tell_lost(holds: Sequence[Hold]) -> None:
    """Count and log holds that were ended for processes that died."""
    if holds:
        LOST.add(n=len(holds))
    for hold in holds:
        log.warning("a hold was lost with its process", extra={"hold": hold.id, "cost": dollars(hold.nanos)})


class Reaper:
    """Looks for lost holds, once or now and then."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._task: asyncio.Task[None] | None = None

    async def run(self) -> int:
        """End the holds that have expired; answers how many this round has ended."""
        lost = await self._store.end_expired(time.time_ns())
        tell_lost(lost)
        return len(lost)

    def start(self) -> None:
        """Look every 30 seconds from now on."""
        self._task = asyncio.ensure_future(self._watch())

    async def close(self) -> None:
        """Look no more; idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            try:
                await self.run()
            except StateError as error:
                log.warning("lost holds are looked for later: %s", error)
