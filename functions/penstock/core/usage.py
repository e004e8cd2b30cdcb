"""Sums of what was used, kept by day, key, owner and model."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from penstock.schema.outcome import FAILED, Usage
from penstock.schema.usage import UsageLine

DAY = 86_400
EPOCH = date(1970, 1, 1).toordinal()

Group = tuple[str, str, str, str]
Counts = Iterable[int]


class Sums:
    """Grows with the number of groups, not with what is added."""

    def __init__(self) -> None:
        self._sums: dict[Group, tuple[int, ...]] = {}

    def add(self, group: Group, counts: Counts) -> None:
        """Add to a group (day, key, owner, model) counts in the order of ``UsageLine``'s."""
        before = self._sums.get(group)
        self._sums[group] = tuple(counts if before is None else map(int.__add__, before, counts))

    def lines(self) -> list[UsageLine]:
        """A line for each group, in order."""
        return [UsageLine(*group, *counts) for group, counts in sorted(self._sums.items())]


def counts_of(ended: str, usage: Usage, cost_nanos: int | None) -> tuple[int, ...]:
    """The counts of one outcome, in the order of ``UsageLine``'s."""
    tokens = (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
    return (1, int(ended == FAILED), *tokens, cost_nanos or 0, int(cost_nanos is None))


def name_day(number: int) -> str:
    """``YYYY-MM-DD`` of a day counted from 1970-01-01."""
    return date.fromordinal(EPOCH + number).isoformat()


def number_day(day: date) -> int:
    """Days from 1970-01-01 to this one."""
    return day.toordinal() - EPOCH
