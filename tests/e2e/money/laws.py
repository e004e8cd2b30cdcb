"""What must hold of what was seen, whatever the machine's speed: only clocks of this machine are compared.

A call was granted at some moment between its sending and its arrival at the upstream. So the calls that lie whole in a
window of time were granted in it, and all of them together are within the limit.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

FAR = 1 << 80
"""More than any sum of nanoseconds."""


class Taken(NamedTuple):
    """What was taken of a rate, in its nanoseconds, at some moment between ``begin`` and ``end``."""

    begin: int
    end: int
    cost: int


def overshoot(taken: Iterable[Taken], depth: int) -> int:
    """By how much the worst of all windows is over ``depth + its length``; 0 or less is within the limit.

    With the takings in the order of their ends, the worst window that ends now begins where the sum of what lies in it
    and of its beginning is largest.
    """
    ordered = sorted(taken, key=lambda each: each.end)
    begins = sorted(each.begin for each in ordered)
    sums = _Sums(begins)
    worst = -depth
    for each in ordered:
        sums.add(bisect_right(begins, each.begin), each.cost)
        worst = max(worst, sums.largest - each.end - depth)
    return worst


class _Sums:
    """Numbers to whose first ones something is added, and the largest of them: a tree of differences.

    A number counts from when it was the last one of those that were added to.
    """

    def __init__(self, numbers: Sequence[int]) -> None:
        self._size = 1 << max(len(numbers) - 1, 1).bit_length()
        self._best = [-FAR] * self._size * 2
        self._added = [0] * self._size * 2
        self._best[self._size : self._size + len(numbers)] = (number - FAR for number in numbers)

    @property
    def largest(self) -> int:
        """The largest of those that count."""
        return self._best[1]

    def add(self, count: int, amount: int) -> None:
        """Add to the first ``count`` numbers."""
        node = self._size + count - 1
        if self._best[node] < 0:
            self._best[node] += FAR
        self._plus(node, amount)
        while node > 1:
            if node & 1:
                self._plus(node - 1, amount)
            node //= 2
            self._best[node] = max(self._best[2 * node : 2 * node + 2]) + self._added[node]

    def _plus(self, node: int, amount: int) -> None:
        self._best[node] += amount
        self._added[node] += amount


def most_at_once(spans: Iterable[tuple[int, int]]) -> int:
    """How many of the spans of time lie over one another at most."""
    edges = sorted(edge for begin, end in spans if begin < end for edge in ((begin, 1), (end, -1)))
    most = now = 0
    for _, change in edges:
        now += change
        most = max(most, now)
    return most
