"""Everything that was counted, as it is told: of this process, or of several added up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from penstock.core.counters import COUNTERS, Gauge, Histogram, Labels

Value = list[float]
"""One number; of a histogram those that fell between its bounds, those beyond, and the sum of all."""
Families = dict[str, "Family"]


@dataclass(slots=True)
class Family:
    """One metric: ``kind`` is counter, gauge or histogram, which alone has ``bounds``.

    Of several processes' gauges the sum is told, or the ``most`` of any.
    """

    name: str
    kind: str
    help: str
    labels: Labels
    bounds: tuple[float, ...] = ()
    most: bool = False
    values: dict[Labels, Value] = field(default_factory=dict)

    def total(self, **labels: str) -> float:
        """The sum of all with these labels."""
        places = [(self.labels.index(name), value) for name, value in labels.items()]
        return sum(
            value[-1] for found, value in self.values.items() if all(found[place] == said for place, said in places)
        )


def own() -> Families:
    """What this process has counted; what has no labels is told from the start, as zero."""
    families = {}
    for each in COUNTERS:
        family = Family(each.name, each.kind, each.help, each.labels)
        if isinstance(each, Histogram):
            family.bounds = each.bounds
            family.values = {labels: list(counts) for labels, counts in each.values.items()}
        else:
            family.most = isinstance(each, Gauge) and each.most
            family.values = {labels: [value] for labels, value in each.values.items()}
            if not each.labels:
                family.values.setdefault((), [0])
        families[each.name] = family
    return families


def add(families: Families, more: Iterable[Family]) -> None:
    """Add what another process has counted; of a metric that changed between releases the first stays."""
    for family in more:
        known = families.setdefault(family.name, family)
        if known is family:
            continue
        if (known.kind, known.labels, known.bounds) != (family.kind, family.labels, family.bounds):
            continue
        for labels, value in family.values.items():
            before = known.values.get(labels)
            known.values[labels] = value if before is None else together(before, value, most=family.most)


def together(one: Value, other: Value, *, most: bool) -> Value:
    """Two processes' numbers as one."""
    return [max(a, b) if most else a + b for a, b in zip(one, other, strict=True)]


def written(families: Families) -> list[dict[str, Any]]:
    """The families as JSON."""
    return [
        {
            "name": family.name,
            "kind": family.kind,
            "help": family.help,
            "labels": family.labels,
            "bounds": family.bounds,
            "most": family.most,
            "values": [[list(labels), value] for labels, value in family.values.items()],
        }
        for family in families.values()
    ]


def read(document: Iterable[dict[str, Any]]) -> list[Family]:
    """The families in what ``written`` made."""
    return [
        Family(
            *(each["name"], each["kind"], each["help"], tuple(each["labels"]), tuple(each["bounds"])),
            most=each["most"],
            values={tuple(labels): value for labels, value in each["values"]},
        )
        for each in document
    ]


Gather = Callable[[], Families]
