"""The memory guard: first caches shrink, then they are emptied, then requests are refused, and then no more."""

from __future__ import annotations

import pytest

from penstock.core import memory as guards
from penstock.core.memory import MemoryGuard
from penstock.errors import MemoryShort
from penstock.schema.caching_section import MemorySection


class Machine:
    """A machine whose use of memory is ``base`` and what its caches hold."""

    def __init__(self, base: float, held: float) -> None:
        self.base = base
        self.held = held
        self.shares: list[float] = []
        self.looks = 0
        self.given_back = 0

    def look(self) -> float:
        self.looks += 1
        return self.base + self.held

    def shrink(self, share: float) -> int:
        self.shares.append(share)
        gone, self.held = self.held * (1 - share), self.held * share
        return int(gone > 0)

    def give_back(self) -> None:
        self.given_back += 1


def guard_of(machine: Machine) -> MemoryGuard:
    section = MemorySection(max_usage_percent=85, gc_threshold_percent=75)
    return MemoryGuard(section, look=machine.look, shrink=machine.shrink, give_back=machine.give_back)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(guards.time, "monotonic", lambda: now[0])
    return now


async def test_while_there_is_enough_nothing_happens() -> None:
    machine = Machine(50, 20)
    guard = guard_of(machine)
    guard.check()
    assert await guard.turn() == 70
    assert (machine.shares, machine.given_back) == ([], 0)


def test_beyond_the_threshold_caches_shrink_and_requests_are_served() -> None:
    machine = Machine(60, 20)
    guard_of(machine).check()
    assert machine.shares == [0.5]
    assert machine.given_back == 1


def test_beyond_the_most_caches_are_emptied_and_requests_are_served_if_that_helped() -> None:
    machine = Machine(80, 20)
    guard_of(machine).check()
    assert machine.shares == [0.5, 0.0]


def test_where_that_does_not_help_requests_are_refused_until_there_is_memory_again(clock: list[float]) -> None:
    machine = Machine(90, 5)
    guard = guard_of(machine)
    for _ in range(2):
        with pytest.raises(MemoryShort, match="90 % of this process's memory") as told:
            guard.check()
        assert (told.value.status, told.value.retry_after) == (503, guards.SOON)
    machine.base = 40
    clock[0] += guards.OFTEN
    guard.check()
    assert not guard.short


def test_what_does_not_help_is_not_done_again_at_once(clock: list[float]) -> None:
    machine = Machine(78, 0)
    guard = guard_of(machine)
    for _ in range(10):
        guard.check()
        clock[0] += guards.OFTEN
    assert machine.given_back == 1
    machine.base += guards.RISE
    guard.check()
    assert machine.given_back == 2, "it got worse"
    clock[0] += 30
    guard.check()
    assert machine.given_back == 3, "it is a while ago"


def test_caches_that_filled_again_are_emptied_again_while_memory_is_short(clock: list[float]) -> None:
    machine = Machine(90, 0)
    guard = guard_of(machine)
    assert guard.guard() == 90
    machine.held = 0.5
    clock[0] += guards.OFTEN
    assert guard.guard() == 90


def test_a_crowd_of_requests_looks_once(clock: list[float]) -> None:
    machine = Machine(50, 0)
    guard = guard_of(machine)
    for _ in range(100):
        guard.check()
    assert machine.looks == 1
    clock[0] += guards.OFTEN
    guard.check()
    assert machine.looks == 2
