"""Counters: what is counted is told, by name and by label, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from penstock.core import counters
from penstock.core.counters import COUNTERS, Counter, Gauge


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
