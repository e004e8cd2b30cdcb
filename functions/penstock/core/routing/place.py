"""What this process knows of one deployment: its calls under way, its latency, whether it is busy or broken."""

from __future__ import annotations

import time

from penstock.core.routing.breaker import Bounds, Breaker
from penstock.errors import UpstreamBusy, UpstreamError, UpstreamRefused
from penstock.schema.model import Deployment

WEIGHT = 0.3
"""Of the newest call in the moving averages."""
BUSY = 1.0
"""Seconds for which a place that says that it is busy, and not for how long, is tried after others."""
LONGEST = 60.0
"""Seconds for which its own word is believed."""


class Place:
    """One deployment as this process has seen it. Seconds throughout; ``busy_until`` is on the monotonic clock.

    ``ttft``, ``per_token`` and ``seconds`` are moving averages of calls that went well.
    """

    __slots__ = (
        *("breaker", "busy_until", "calls", "deployment", "failures", "per_token", "seconds", "ttft", "under_way"),
    )

    def __init__(self, deployment: Deployment, bounds: Bounds) -> None:
        self.deployment = deployment
        self.breaker = Breaker(bounds)
        self.busy_until = 0.0
        self.under_way = 0
        self.calls = 0
        self.failures = 0
        self.seconds: float | None = None
        self.ttft: float | None = None
        self.per_token: float | None = None

    @property
    def load(self) -> float:
        """Calls under way for each unit of weight: this process's own, or all that a worker said it has."""
        return max(self.under_way, self.deployment.reported) / self.deployment.weight

    def available(self, now: float) -> bool:
        """Whether there is no reason to leave it alone."""
        return now >= self.busy_until and self.breaker.admits(now)

    def began(self) -> None:
        """A call to it begins."""
        self.under_way += 1
        self.calls += 1
        self.breaker.began()

    def ended(self, error: BaseException | None) -> None:
        """A call to it has ended. Busy is not broken, and a caller's own mistake or leaving tells nothing of it."""
        now = time.monotonic()
        self.under_way -= 1
        if isinstance(error, UpstreamBusy):
            pause = BUSY if error.retry_after is None else min(error.retry_after, LONGEST)
            self.busy_until = max(self.busy_until, now + pause)
        self.failures += isinstance(error, UpstreamError) and not isinstance(error, UpstreamRefused)
        broken = isinstance(error, UpstreamError) and not isinstance(error, (UpstreamBusy, UpstreamRefused))
        self.breaker.ended(failed=True if broken else None if error is not None else False, now=now)

    def answered(self, ttft: float, seconds: float, tokens: int) -> None:
        """Learn from a call that went well: the time to its first token, of each after it, and of all."""
        self.seconds = _moved(self.seconds, seconds)
        self.ttft = _moved(self.ttft, ttft)
        if tokens > 1:
            self.per_token = _moved(self.per_token, (seconds - ttft) / (tokens - 1))


def _moved(average: float | None, newest: float) -> float:
    return newest if average is None else average + WEIGHT * (newest - average)
