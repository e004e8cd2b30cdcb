"""A breaker for the calls to a store: while the store is away they fail at once, instead of waiting for it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from types import TracebackType

from penstock.core.counters import Counter, Gauge
from penstock.errors import StateConflict, StateError, UpstreamTimeout

log = logging.getLogger("penstock.state")

THRESHOLD = 5  # failures in a row that open it
PAUSE = 2.0  # seconds until the first probe; doubled after each one that fails
LONGEST = 30.0  # seconds at most between two probes

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half_open"

CALLS = Counter(
    "penstock_state_calls_total",
    "Calls to the store by how they ended: ok, conflict, failed, timeout, refused_by_breaker.",
    ("store", "result"),
)
OPENED = Counter("penstock_state_breaker_opened_total", "How often the store was found to be away.", ("store",))
IS_OPEN = Gauge("penstock_state_breaker_open", "1 while calls fail at once because the store is away.", ("store",))


class Answered(StateError):
    """The store said no to this one call, or was too busy for it. It is not away, so the breaker stays closed."""


class Breaker:
    """Closed, it lets every call through; five failures in a row open it, and then calls fail with the cause at once.

    Two seconds later it is half open: exactly one call goes through as a probe. Its success closes the breaker, its
    failure opens it for twice as long, up to 30 seconds. A call that is cancelled is neither. ``clock`` answers seconds
    that never go back.
    """

    def __init__(self, store: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.state = CLOSED
        self._store = store
        self._clock = clock
        self._failures = 0
        self._cause = ""
        self._pause = PAUSE
        self._until = 0.0
        self._period = 0
        IS_OPEN.set(store, value=0)
        OPENED.add(store, n=0)  # told from the start, so that its first increase is seen

    def turn(self) -> Turn:
        """A ``with`` block for one call. Raises ``StateError`` at once while it is not let through."""
        if self.state is not CLOSED:
            self._probe()
        return Turn(self, self._period)

    def ended(self, period: int, error: BaseException | None) -> None:
        """Learn how a call ended. One that began before the last change of state tells nothing about the store now."""
        result = _result(error)
        if result:
            CALLS.add(self._store, result)
        if period != self._period:
            return
        if error is None or isinstance(error, StateConflict | Answered):
            self._failures = 0
            if self.state is HALF_OPEN:
                self._close()
        elif isinstance(error, StateError):
            self._failures += 1
            self._cause = error.message
            if self.state is HALF_OPEN or self._failures >= THRESHOLD:
                self._open()
        elif self.state is HALF_OPEN:
            self._enter(OPEN)  # nothing was learned: the next call is the probe

    def _probe(self) -> None:
        remaining = self._until - self._clock()
        if self.state is OPEN and remaining <= 0:
            self._enter(HALF_OPEN)
            return
        CALLS.add(self._store, "refused_by_breaker")
        again = "is being tried again now" if remaining <= 0 else f"is tried again in {remaining:.1f} s"
        raise StateError(
            f"{self._cause} (the store failed {self._failures} times in a row and {again})",
            retry_after=max(remaining, 1.0),
        )

    def _open(self) -> None:
        if self.state is CLOSED:
            self._pause = PAUSE
            OPENED.add(self._store)
            IS_OPEN.set(self._store, value=1)
            log.warning("the store is away, so calls to it fail at once until it answers: %s", self._cause)
        else:
            self._pause = min(2 * self._pause, LONGEST)
        self._until = self._clock() + self._pause
        self._enter(OPEN)

    def _close(self) -> None:
        IS_OPEN.set(self._store, value=0)
        self._enter(CLOSED)
        log.info("the store answers again")

    def _enter(self, state: str) -> None:
        self.state = state
        self._period += 1


class Turn:
    """One call that was let through, begun in a period of the breaker's between two changes of its state."""

    __slots__ = ("_breaker", "_period")

    def __init__(self, breaker: Breaker, period: int) -> None:
        self._breaker = breaker
        self._period = period

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._breaker.ended(self._period, error)


def _result(error: BaseException | None) -> str:
    """The word for how a call ended; empty for one that was cancelled."""
    if error is None:
        return "ok"
    if isinstance(error, StateConflict):
        return "conflict"
    if isinstance(error, asyncio.CancelledError):
        return ""
    return "timeout" if isinstance(error.__cause__, TimeoutError | UpstreamTimeout) else "failed"
