"""The memory guard: caches shrink before requests are refused, and requests are refused before the process dies."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable

from penstock.core.chore import Chore
from penstock.core.counters import Counter, Gauge
from penstock.errors import MemoryShort
from penstock.schema.caching_section import MemorySection

log = logging.getLogger("penstock.memory")

OFTEN = 0.25
"""Seconds between two looks while requests come: one takes a tenth of a millisecond."""
RISE = 1.0
"""Percent of the memory by which it has got worse."""
SOON = 1.0
"""Seconds until a request that was refused should be tried again."""

USED = Gauge(
    "penstock_memory_used_percent", "Of the memory that a process may use, how much the fullest one uses.", most=True
)
SHORT = Gauge("penstock_memory_short", "1 while new requests are refused because memory is short.")
CLEANED = Counter("penstock_memory_cleanings_total", "How often caches had to shrink, or were emptied.", ("how",))
REFUSED = Counter("penstock_memory_refused_total", "Requests that were refused because memory was short.")


class MemoryGuard(Chore):
    """Looks regularly, and before a request if the last look is a quarter of a second old.

    ``look`` answers how many percent of the memory are used, ``shrink`` has caches keep that share of what they hold,
    ``give_back`` hands the system what was freed.
    """

    def __init__(
        self,
        section: MemorySection,
        *,
        look: Callable[[], float],
        shrink: Callable[[float], int],
        give_back: Callable[[], None],
    ) -> None:
        super().__init__(section.monitoring_interval)
        self._section = section
        self._look = look
        self._shrink = shrink
        self._give_back = give_back
        self._looked_at = self._cleaned_at = float("-inf")
        self._left = 0.0
        self.used = 0.0
        self.short = False
        SHORT.set(value=0)

    def check(self) -> None:
        """Raise ``MemoryShort`` while there is no memory for another request."""
        if time.monotonic() - self._looked_at >= min(OFTEN, self._section.monitoring_interval):
            self.guard()
        if self.short:
            REFUSED.add()
            raise MemoryShort(
                f"{self.used:.0f} % of this process's memory are in use; try again shortly.", retry_after=SOON
            )

    async def turn(self) -> float:
        """Look, and make room; answers how many percent are used."""
        return self.guard()

    def guard(self) -> float:
        """Look, and make room; answers how many percent are used.

        What was cleaned and did not help is cleaned again when it has got worse, or after a while: that takes CPU.
        """
        section, now = self._section, time.monotonic()
        self.used, self._looked_at = self._look(), now
        if self.used >= section.gc_threshold_percent:
            worse = self.used >= self._left + RISE or now - self._cleaned_at >= section.monitoring_interval
            if worse:
                self._clean("shrunk", 0.5, thoroughly=True)
                self._left, self._cleaned_at = self.used, now
            if self.used >= section.max_usage_percent:
                self._clean("emptied", 0.0, thoroughly=worse)
        self._tell(self.used >= section.max_usage_percent)
        return self.used

    def _clean(self, how: str, share: float, *, thoroughly: bool) -> None:
        if self._shrink(share) or thoroughly:
            gc.collect()
            self._give_back()
            self.used = self._look()
            CLEANED.add(how)

    def _tell(self, short: bool) -> None:
        USED.set(value=self.used)
        SHORT.set(value=int(short))
        if short and not self.short:
            log.warning("memory is short, so new requests are refused: %.0f %% are used", self.used)
        elif self.short and not short:
            log.info("there is memory again: %.0f %% are used", self.used)
        self.short = short
