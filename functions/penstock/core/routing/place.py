"""What this process knows of one deployment: its calls under way, its latency, whether it is busy or broken."""

from __future__ import annotations

import time

from penstock.core.counters import Gauge
from penstock.core.routing.breaker import Bounds, Breaker
from penstock.errors import UpstreamBusy, UpstreamError, UpstreamLacks, UpstreamRefused
from penstock.schema.model import Deployment

WEIGHT = 0.3
"""Of the newest call in the moving averages."""
BUSY = 1.0
"""Seconds for which a place that says that it is busy, and not for how long, is tried after others."""
LONGEST = 60.0
"""Seconds for which its own word is believed."""
NEVER = float("-inf")

UNDER_WAY = Gauge("penstock_attempts_in_flight", "Attempts at a provider that are under way.", ("provider", "model"))


class Place:
    """One deployment as this process has seen it, and others have told. Seconds throughout, on the monotonic clock.

    ``ttft``, ``per_token`` and ``seconds`` are moving averages of calls that went well. ``warm_until`` and
    ``warming_since`` are of places that may sleep. ``endpoints`` are those that it has served.
    """

    __slots__ = (
        *(
            "_labels",
            "breaker",
            "busy_until",
            "calls",
            "deployment",
            "down_until",
            "endpoints",
            "failures",
            "per_token",
        ),
        *("seconds", "served_at", "ttft", "under_way", "warm_until", "warming_since"),
    )

    def __init__(self, deployment: Deployment, bounds: Bounds) -> None:
        self.deployment = deployment
        self._labels = (deployment.provider, deployment.model)
        self.breaker = Breaker(bounds)
        self.busy_until = self.down_until = 0.0
        self.served_at = NEVER
        self.warm_until = 0.0
        self.warming_since: float | None = None
        self.under_way = 0
        self.calls = 0
        self.endpoints: set[str] = set()
        self.failures = 0
        self.seconds: float | None = None
        self.ttft: float | None = None
        self.per_token: float | None = None

    @property
    def load(self) -> float:
        """Calls under way for each unit of weight: this process's own, or all that a worker said it has."""
        return max(self.under_way, self.deployment.reported) / self.deployment.weight

    def serves(self, now: float) -> bool:
        """Whether it may be expected to answer, now or once it is less busy."""
        return now >= self.down_until and self.breaker.admits(now)

    def available(self, now: float) -> bool:
        """Whether there is no reason to leave it alone."""
        return now >= self.busy_until and self.serves(now)

    def cold(self, now: float) -> bool:
        """Whether it may sleep, and nobody knows that it does not."""
        return self.deployment.cold_start is not None and now >= self.warm_until

    def began(self) -> None:
        """A call to it begins."""
        self.under_way += 1
        UNDER_WAY.move(*self._labels, by=1)
        self.calls += 1
        self.breaker.began()

    def ended(self, error: BaseException | None, endpoint: str) -> str | None:
        """A call to an endpoint of it has ended; answers what its breaker became, if anything new.

        Busy is not broken, and a caller's own mistake or leaving tells nothing of it. Nor is one broken that lacks an
        endpoint, if it never served that: the others may be well.
        """
        now = time.monotonic()
        self.under_way -= 1
        UNDER_WAY.move(*self._labels, by=-1)
        if isinstance(error, UpstreamBusy):
            pause = BUSY if error.retry_after is None else min(error.retry_after, LONGEST)
            self.busy_until = max(self.busy_until, now + pause)
        self.failures += isinstance(error, UpstreamError) and not isinstance(error, UpstreamRefused)
        broken = isinstance(error, self.breaker.bounds.counted) and not isinstance(
            error, (UpstreamBusy, UpstreamRefused)
        )
        if isinstance(error, UpstreamLacks) and self.endpoints and endpoint not in self.endpoints:
            broken = False
        if error is None:
            self.served_at, self.down_until = now, 0.0
            self.endpoints.add(endpoint)
        return self.breaker.ended(failed=True if broken else None if error is not None else False, now=now)

    def answered(self, ttft: float, seconds: float, tokens: int) -> None:
        """Learn from a call that went well: the time to its first token, of each after it, and of all."""
        self.seconds = _moved(self.seconds, seconds)
        self.ttft = _moved(self.ttft, ttft)
        if tokens > 1:
            self.per_token = _moved(self.per_token, (seconds - ttft) / (tokens - 1))


def _moved(average: float | None, newest: float) -> float:
    return newest if average is None else average + WEIGHT * (newest - average)
