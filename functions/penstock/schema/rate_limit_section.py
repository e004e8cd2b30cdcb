"""The ``rate_limit`` section of ``config.yaml``: the gateway's own limit, in the words of an earlier system."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.schema.bounds import require
from penstock.schema.limit import Limits


@dataclass(frozen=True, slots=True)
class RateLimitSection:
    """``requests_per_window`` in ``window_seconds``, of which ``burst_limit`` may come at once: what ``limits.gateway``
    says as well.
    """

    requests_per_window: int = 1000
    window_seconds: float = 60.0
    burst_limit: int = 50

    def __post_init__(self) -> None:
        require("window_seconds", 1 <= self.window_seconds <= 86_400, "from 1 to 86400 seconds")
        require("burst_limit", 1 <= self.burst_limit <= 10**9, "from 1 to 1000000000")
        least = self.requests_per_window * 60 >= self.window_seconds
        require("requests_per_window", least and self.requests_per_window <= 10**9, "at least one in a minute")

    @property
    def limits(self) -> Limits:
        """The same as a limit by the minute, rounded down to whole requests."""
        by_minute = int(self.requests_per_window * 60 // self.window_seconds)
        return Limits(by_minute, min(self.burst_limit, self.requests_per_window))
