"""The parts of alerts, as one process has them."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from penstock.core.alerts.rulebook import Rulebook
from penstock.core.alerts.teller import Teller
from penstock.core.alerts.watchman import Watchman

BELIEVED = 1.0
"""Seconds for which it is believed how many alerts there are: several probes may ask at once."""


@dataclass(slots=True)
class AlertDesk:
    """Who keeps the rules, who looks at their numbers, and who tells; ``enabled`` is whether anybody looks."""

    rulebook: Rulebook
    watchman: Watchman
    teller: Teller
    enabled: bool = True
    _counted: tuple[float, dict[str, int]] = field(default=(float("-inf"), {}), init=False)

    async def counts(self) -> dict[str, int]:
        """How many alerts fire or are acknowledged, and how many of those are critical, or warnings."""
        if time.monotonic() - self._counted[0] > BELIEVED:
            found = Counter(alert.severity for alert in await self.rulebook.alerts())
            told = {"active": found.total(), "critical": found["critical"], "warning": found["warning"]}
            self._counted = time.monotonic(), told
        return self._counted[1]

    def start(self, before: AlertDesk | None = None) -> None:
        """Look at the rules' numbers from now on, as the desk ``before`` did."""
        if self.enabled:
            self.watchman.start(before.watchman if before else None)

    async def close(self) -> None:
        """Look no more, and let go of the channels."""
        await self.watchman.close()
        await self.teller.close()
