"""Counters of several processes in one folder: a pool here stands for a process, which dies when its lock is let go."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from penstock.core import families, pool
from penstock.core.counters import COUNTERS, Counter, Gauge, Histogram
from penstock.core.families import Families, own
from penstock.core.json import parse, to_json
from penstock.core.pool import Pool

Process = tuple[Pool, Callable[[float], None]]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[int, float]]:
    """What each pool's process has counted, by the pool's id."""
    before = list(COUNTERS)
    COUNTERS[:] = []
    counter, gauge = Counter("things_total", "Things.", ("kind",)), Gauge("open", "Open.")
    histogram = Histogram("seconds", "Seconds.", (), (0.1, 1.0))
    counts: dict[int, float] = {}

    def of(number: float) -> Families:
        counter._values.clear()
        histogram.values.clear()
        counter.add("a", n=number)
        gauge.set(value=number)
        histogram.see(value=number)
        return own()

    monkeypatch.setattr(pool, "own", lambda: of(counts.get(0, 0)))
    yield counts
    COUNTERS[:] = before


async def born(folder: Path, counted: dict[int, float], number: float) -> Pool:
    """A process that has counted so much."""
    made = Pool(str(folder))
    counted[0] = number
    made.start()
    await made.turn()
    return made


def contents(folder: Path) -> dict[str, bytes]:
    """The files of all processes."""
    return {path.name: path.read_bytes() for path in folder.glob("*-*")}


def die(process: Pool) -> None:
    """End a process as a signal does that nobody can catch."""
    assert process._lock is not None
    os.close(process._lock)
    process._lock = None


async def test_whoever_is_asked_tells_of_all(tmp_path: Path, counted: dict[int, float]) -> None:
    one, other = await born(tmp_path, counted, 3), await born(tmp_path, counted, 4)
    counted[0] = 5  # the other counts on, and has not written it yet
    told = other.gather()
    assert told["things_total"].values == {("a",): [8]}
    assert told["open"].values == {(): [8]}
    assert told["seconds"].values == {(): [0, 0, 2, 8]}
    counted[0] = 3
    assert one.gather()["things_total"].values == {("a",): [8]}, "what was told had been written"
    await one.close()
    await other.close()


async def test_who_is_dead_still_counts_but_has_nothing_open(tmp_path: Path, counted: dict[int, float]) -> None:
    one, other = await born(tmp_path, counted, 3), await born(tmp_path, counted, 4)
    die(one)
    told = other.gather()
    assert told["things_total"].values == {("a",): [7]}
    assert told["open"].values == {(): [4]}
    await other.close()


async def test_the_dead_are_taken_together_and_counted_once(tmp_path: Path, counted: dict[int, float]) -> None:
    for number in (1, 2, 3):
        die(await born(tmp_path, counted, number))
    last = await born(tmp_path, counted, 10)
    assert last.gather()["things_total"].values == {("a",): [16]}
    kept = contents(tmp_path)
    assert len(kept) == 2, "the words and the lock of the one that lives"
    die(last)
    newest = await born(tmp_path, counted, 20)
    for name, data in kept.items():  # as one sees it who listed the folder before
        (tmp_path / name).write_bytes(data)
    assert newest.gather()["things_total"].values == {("a",): [36]}
    await newest.close()


async def test_one_that_ends_in_order_has_the_last_word(tmp_path: Path, counted: dict[int, float]) -> None:
    one, other = await born(tmp_path, counted, 3), await born(tmp_path, counted, 0)
    counted[0] = 9
    await one.close()
    counted[0] = 0
    assert other.gather()["things_total"].values == {("a",): [9]}
    await other.close()


def test_what_another_release_counts_otherwise_is_not_mixed_in() -> None:
    one = families.Family("x", "counter", "X.", ("a",), values={("1",): [1]})
    other = families.Family("x", "counter", "X.", ("a", "b"), values={("1", "2"): [1]})
    together = {"x": one}
    families.add(together, [other])
    assert together["x"].values == {("1",): [1]}


def test_of_a_share_the_greatest_is_told_and_not_the_sum() -> None:
    gauges = [
        families.Family("share", "gauge", "S.", (), most=True, values={(): [value]}) for value in (40.0, 70.0, 60)
    ]
    told = {"share": gauges[0]}
    families.add(told, families.read(parse(to_json(families.written({"share": gauges[1]})))))
    families.add(told, gauges[2:])
    assert told["share"].values == {(): [70.0]}
