"""A breaker of one deployment: after failures in a row it is left alone for a while, then tried with few calls."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.errors import UpstreamError
from penstock.schema.notice import CLOSED, OPEN

HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Bounds:
    """``failure_threshold`` failures in a row open a breaker for ``recovery_timeout`` seconds; then
    ``half_open_max_calls`` at a time are let through, until one succeeds or fails. Failures are those that are
    ``counted``.
    """

    failure_threshold: int = 5
    recovery_timeout: float = 60.0
    half_open_max_calls: int = 1
    counted: tuple[type[UpstreamError], ...] = (UpstreamError,)


class Breaker:
    """The breaker of one deployment. Times are on the monotonic clock, in seconds.

    Once it is half open, calls go through only where this process is the one that tries: until ``trying_until``. From
    ``asks_at`` on it may ask for that.
    """

    __slots__ = ("_changed_at", "_failures", "_under_way", "asks_at", "bounds", "opened_until", "trying_until")

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._failures = 0
        self._under_way = 0
        self._changed_at = 0.0
        self.opened_until = 0.0
        self.trying_until = self.asks_at = 0.0

    def state(self, now: float) -> str:
        """``closed``, ``open``, or ``half_open`` once its time is over and nobody knows yet."""
        if not self.opened_until:
            return CLOSED
        return OPEN if now < self.opened_until else HALF_OPEN

    def admits(self, now: float) -> bool:
        """Whether one more call may go through."""
        if not self.opened_until:
            return True
        trying = self.opened_until <= now < self.trying_until
        return trying and self._under_way < self.bounds.half_open_max_calls

    def began(self) -> None:
        """A call goes through."""
        self._under_way += 1

    def ended(self, *, failed: bool | None, now: float) -> str | None:
        """A call has ended: well, in a failure, or (``None``) in a way that tells nothing of the deployment.

        Answers what the breaker became by it: ``open``, also if it was before, or ``closed``, or nothing new.
        """
        self._under_way -= 1
        if failed is None:
            return None
        if not failed:
            was_open = bool(self.opened_until)
            self._close(now)
            return CLOSED if was_open else None
        self._failures += 1
        if self.opened_until and now < self.opened_until:  # it began before the breaker opened
            return None
        if self._failures >= self.bounds.failure_threshold or self.opened_until:
            self._open(now)
            return OPEN
        return None

    def told(self, state: str, at: float) -> None:
        """Another process saw it become ``open`` or ``closed``; what this one has seen since then stands."""
        if at > self._changed_at and state == OPEN:
            self._open(at)
        elif at > self._changed_at and self.opened_until:
            self._close(at)

    def _open(self, at: float) -> None:
        self._changed_at = at
        self.opened_until = at + self.bounds.recovery_timeout
        self.trying_until = 0.0

    def _close(self, at: float) -> None:
        self._failures, self.opened_until = 0, 0.0
        self._changed_at = at
