"""What a process counts of itself, for ``GET /metrics``: plain dictionaries, touched on the event loop alone."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping

COUNTERS: list[Counter | Gauge | Histogram] = []
"""Everything that is counted, in the order in which it was declared."""

ROOM = 2000
"""Combinations of labels that one metric has at most: workers come and go, each under its own name."""
OTHER = "other"
"""The value of every label of what there is no room for."""

Labels = tuple[str, ...]


class Counter:
    """A number that only grows, for each combination of its labels' values. Its name ends in ``_total``.

    A label's values are few and known here; a key, a prompt or a request's id is never one.
    """

    __slots__ = ("_values", "help", "labels", "name")
    kind = "counter"

    def __init__(self, name: str, help: str, labels: Labels = ()) -> None:
        self.name = name
        self.help = help
        self.labels = labels
        self._values: defaultdict[Labels, float] = defaultdict(int)
        COUNTERS.append(self)

    @property
    def values(self) -> Mapping[Labels, float]:
        """The number for each combination of labels that was counted so far."""
        return self._values

    def add(self, *labels: str, n: float = 1) -> None:
        """Count ``n`` more for these labels, given in the order of ``labels``."""
        if labels not in self._values and len(self._values) >= ROOM:
            labels = (OTHER,) * len(labels)
        self._values[labels] += n


class Gauge:
    """A number that goes up and down, for each combination of its labels' values.

    Of several processes the sum is told, or the ``most`` of any.
    """

    __slots__ = ("help", "labels", "most", "name", "values")
    kind = "gauge"

    def __init__(self, name: str, help: str, labels: Labels = (), *, most: bool = False) -> None:
        self.name = name
        self.help = help
        self.labels = labels
        self.most = most
        self.values: dict[Labels, float] = {}
        COUNTERS.append(self)

    def set(self, *labels: str, value: float) -> None:
        """What the number is now for these labels, given in the order of ``labels``."""
        self.values[labels] = value

    def move(self, *labels: str, by: float) -> None:
        """Make the number greater or less."""
        values = self.values
        if labels not in values and len(values) >= ROOM:
            labels = (OTHER,) * len(labels)
        values[labels] = values.get(labels, 0) + by


class Histogram:
    """How many values were at most each of the ``bounds``, for each combination of its labels' values.

    ``values`` hold how many fell between two bounds, those beyond the last, and at the end the sum of all.
    """

    __slots__ = ("bounds", "help", "labels", "name", "values")
    kind = "histogram"

    def __init__(self, name: str, help: str, labels: Labels, bounds: tuple[float, ...]) -> None:
        self.name = name
        self.help = help
        self.labels = labels
        self.bounds = bounds
        self.values: dict[Labels, list[float]] = {}
        COUNTERS.append(self)

    def see(self, *labels: str, value: float) -> None:
        """Count a value for these labels, given in the order of ``labels``."""
        counts = self.values.get(labels)
        if counts is None:
            if len(self.values) >= ROOM:
                labels = (OTHER,) * len(labels)
            counts = self.values.setdefault(labels, [0] * (len(self.bounds) + 2))
        counts[bisect_left(self.bounds, value)] += 1
        counts[-1] += value
