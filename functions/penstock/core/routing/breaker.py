"""A breaker of one deployment: after failures in a row it is left alone for a while, then tried with few calls."""

from __future__ import annotations

from dataclasses import dataclass

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half_open"


@dataclass(frozen=True, slots=True)
class Bounds:
    """``failure_threshold`` failures in a row open a breaker for ``recovery_timeout`` seconds; then
    ``half_open_max_calls`` at a time are let through, until one succeeds or fails.
    """

    failure_threshold: int = 5
    recovery_timeout: float = 60.0
    half_open_max_calls: int = 1


class Breaker:
    """The breaker of one deployment. Times are on the monotonic clock, in seconds."""

    __slots__ = ("_bounds", "_failures", "_trying", "opened_until")

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._failures = 0
        self._trying = 0
        self.opened_until = 0.0

    def state(self, now: float) -> str:
        """``closed``, ``open``, or ``half_open`` once its time is over and nobody knows yet."""
        if not self.opened_until:
            return CLOSED
        return OPEN if now < self.opened_until else HALF_OPEN

    def admits(self, now: float) -> bool:
        """Whether one more call may go through."""
        state = self.state(now)
        return state == CLOSED or (state == HALF_OPEN and self._trying < self._bounds.half_open_max_calls)

    def began(self) -> None:
        """A call goes through."""
        self._trying += 1

    def ended(self, *, failed: bool | None, now: float) -> None:
        """A call has ended: well, in a failure, or (``None``) in a way that tells nothing of the deployment."""
        self._trying -= 1
        if failed is None:
            return
        if not failed:
            self._failures, self.opened_until = 0, 0.0
            return
        self._failures += 1
        if self._failures >= self._bounds.failure_threshold or self.opened_until:
            self.opened_until = now + self._bounds.recovery_timeout
