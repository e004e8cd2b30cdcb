"""Counters: what is counted is told, by name and by label, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from penstock.core import counters
from penstock.core.counters import COUNTERS, OTHER, ROOM, Counter, Gauge, Histogram


@pytest.fixture(autouse=True)
def declared() -> Iterator[None]:
    before = list(COUNTERS)
    yield
    COUNTERS[:] = before


def test_what_is_declared_is_listed_in_order() -> None:
    one, other = Counter("one_total", "One."), Gauge("other", "Another.", ("store",))
    assert counters.COUNTERS[-2:] == [one, other]


def test_each_combination_of_labels_has_a_number_of_its_own() -> None:
    counter = Counter("calls_total", "Calls.", ("store", "result"))
    counter.add("sqlite", "ok")
    counter.add("sqlite", "ok")
    counter.add("sqlite", "failed", n=3)
    assert counter.values == {("sqlite", "ok"): 2, ("sqlite", "failed"): 3}


def test_without_labels_there_is_one_number() -> None:
    counter = Counter("grants_total", "Grants.")
    assert counter.values == {}
    counter.add()
    counter.add(n=2)
    assert counter.values == {(): 3}


def test_a_gauge_tells_its_last_value() -> None:
    gauge = Gauge("open", "Open.", ("store",))
    gauge.set("sqlite", value=1)
    gauge.set("sqlite", value=0)
    assert gauge.values == {("sqlite",): 0}


def test_a_gauge_moves() -> None:
    gauge = Gauge("under_way", "Under way.", ("provider",))
    gauge.move("a", by=1)
    gauge.move("a", by=1)
    gauge.move("a", by=-1)
    assert gauge.values == {("a",): 1}


def test_a_histogram_counts_what_falls_between_its_bounds_and_the_sum() -> None:
    histogram = Histogram("seconds", "Seconds.", ("model",), (0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        histogram.see("a", value=value)
    assert histogram.values == {("a",): [2, 1, 1, 7.65]}


def test_what_there_is_no_room_for_is_counted_together() -> None:
    counter = Counter("workers_total", "Workers.", ("provider", "model"))
    gauge = Gauge("now", "Now.", ("provider", "model"))
    histogram = Histogram("seconds", "Seconds.", ("provider", "model"), (1.0,))
    for number in range(ROOM + 5):
        counter.add(f"worker-{number}", "m")
        gauge.move(f"worker-{number}", "m", by=1)
        histogram.see(f"worker-{number}", "m", value=1.0)
    counter.add("worker-0", "m")
    assert counter.values["worker-0", "m"] == 2
    assert counter.values[OTHER, OTHER] == gauge.values[OTHER, OTHER] == 5
    assert histogram.values[OTHER, OTHER] == [5, 0, 5.0]
    assert len(counter.values) == len(gauge.values) == len(histogram.values) == ROOM + 1
