"""Ends the holds of requests whose process died: their slots are free again, and what they may have cost is spent."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from penstock.core.chore import Chore
from penstock.core.counters import Counter
from penstock.core.ports import Store
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


class Reaper(Chore):
    """Looks for lost holds, once or now and then."""

    def __init__(self, store: Store) -> None:
        super().__init__(EVERY)
        self._store = store

    async def turn(self) -> int:
        """End the holds that have expired; answers how many this round has ended."""
        lost = await self._store.end_expired(time.time_ns())
        tell_lost(lost)
        return len(lost)
