"""Limits and budgets as people state them, and what a caller learns of them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from penstock.schema.price import nanos

MINUTE = 60 * 10**9
"""In nanoseconds, the unit in which limits count time."""
DAY = 86400
"""In seconds; every day of UTC is as long."""
PERIODS = ("daily", "weekly", "monthly", "total")


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be taken; ``None`` is without limit.

    In any minute at most ``requests_per_minute`` and a ``burst``, which is also the most at once (unsaid: a sixth of
    the minute's). ``tokens_per_minute`` counts prompts and answers; a whole minute's may be taken at once.
    ``concurrency`` is the number of requests under way.
    """

    requests_per_minute: int | None = None
    burst: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None

    def __post_init__(self) -> None:
        for name in ("requests_per_minute", "burst", "tokens_per_minute", "concurrency"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= 10**9:
                raise ValueError(f"{name}: must be from 1 to 1000000000")
        if self.burst is not None and self.requests_per_minute is None:
            raise ValueError("burst: must stand beside requests_per_minute")

    @property
    def at_once(self) -> int:
        """Requests that may come at the same moment."""
        return self.burst or max(1, -(-(self.requests_per_minute or 0) // 6))


@dataclass(frozen=True, slots=True)
class Budget:
    """Dollars that may be spent in a day, an ISO week, a month (of UTC) and altogether; ``None`` is without limit."""

    daily: float | None = None
    weekly: float | None = None
    monthly: float | None = None
    total: float | None = None

    def __post_init__(self) -> None:
        for name in PERIODS:
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 10**9:
                raise ValueError(f"{name}: must be from 0 to 1000000000 dollars")

    def ceilings(self, now: float) -> tuple[tuple[str, int], ...]:
        """The windows that ``now`` falls into, and the most nano-dollars of each."""
        return tuple(
            (window(period, now), nanos(dollars))
            for period in PERIODS
            if (dollars := getattr(self, period)) is not None
        )


NO_LIMITS, NO_BUDGET = Limits(), Budget()


def stated(record: Limits | Budget | None) -> dict[str, float | int] | None:
    """What a record states, without what it leaves open; ``None`` for no record."""
    if record is None:
        return None
    return {field.name: value for field in fields(record) if (value := getattr(record, field.name)) is not None}


def window(period: str, now: float) -> str:
    """The name of the window of a period that ``now`` (seconds since the epoch) falls into, such as ``2026-11``."""
    return _window_of_day(period, int(now // DAY))


@lru_cache(maxsize=64)
def _window_of_day(period: str, number: int) -> str:
    day = datetime.fromtimestamp(number * DAY, UTC)
    if period == "daily":
        return f"{day:%Y-%m-%d}"
    if period == "weekly":
        return f"{day:%G-W%V}"
    return f"{day:%Y-%m}" if period == "monthly" else period


@lru_cache(maxsize=64)
def window_ends(name: str) -> float | None:
    """When a window ends, in seconds since the epoch; ``None`` for ``total``, which never does."""
    if name == "total":
        return None
    if "W" in name:
        return (datetime.strptime(f"{name}-1", "%G-W%V-%u").replace(tzinfo=UTC) + timedelta(days=7)).timestamp()
    if len(name) == len("2026-11"):
        first = datetime.strptime(name, "%Y-%m").replace(tzinfo=UTC)
        return (first.replace(day=1) + timedelta(days=32)).replace(day=1).timestamp()
    return (datetime.strptime(name, "%Y-%m-%d").replace(tzinfo=UTC) + timedelta(days=1)).timestamp()


class Allowance(NamedTuple):
    """How one limit stands: its number a minute, what is left at once, and when all of it is back (epoch seconds)."""

    limit: int
    remaining: int
    reset_at: float


class Standing(NamedTuple):
    """What headers tell of a request's limits: the requests of its tightest scope, and its tokens."""

    requests: Allowance | None = None
    tokens: Allowance | None = None
