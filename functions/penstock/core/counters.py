"""What a process counts of itself, for ``GET /metrics``: plain dictionaries, touched on the event loop alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

COUNTERS: list[Counter | Gauge] = []
"""Everything that is counted, in the order in which it was declared."""


class Counter:
    """A number that only grows, for each combination of its labels' values. Its name ends in ``_total``.

    A label's values are few and known here; a key, a prompt or a request's id is never one.
    """

    __slots__ = ("_values", "help", "labels", "name")

    def __init__(self, name: str, help: str, labels: tuple[str, ...] = ()) -> None:
        self.name = name
        self.help = help
        self.labels = labels
        self._values: defaultdict[tuple[str, ...], float] = defaultdict(int)
        COUNTERS.append(self)

    @property
    def values(self) -> Mapping[tuple[str, ...], float]:
        """The number for each combination of labels that was counted so far."""
        return self._values

    def add(self, *labels: str, n: float = 1) -> None:
        """Count ``n`` more for these labels, given in the order of ``labels``."""
        self._values[labels] += n


class Gauge:
    """A number that goes up and down, for each combination of its labels' values."""

    __slots__ = ("help", "labels", "name", "values")

    def __init__(self, name: str, help: str, labels: tuple[str, ...] = ()) -> None:
        self.name = name
        self.help = help
        self.labels = labels
        self.values: dict[tuple[str, ...], float] = {}
        COUNTERS.append(self)

    def set(self, *labels: str, value: float) -> None:
        """What the number is now for these labels, given in the order of ``labels``."""
        self.values[labels] = value
