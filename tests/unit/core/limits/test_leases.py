"""Blocks of permits: how large they are, when they end, and what becomes of what is left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from penstock.core.limits import leases as module
from penstock.core.limits.leases import SHARE, Block, Leases
from penstock.core.limits.terms import Need, Terms
from penstock.schema.limit import Budget, Limits
from penstock.schema.meter import SECOND, Settlement
from tests.unit.core.limits.meters import ONE, Clock, key_terms

FAST = Limits(requests_per_minute=6000, burst=100)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    clock.put_before(monkeypatch)
    return clock  # type: ignore[return-value]


class Room:
    """Blocks of one meter, granted without a store, and what is settled of them."""

    def __init__(self, terms: Terms, clock: Clock) -> None:
        self.terms, self.clock = terms, clock
        self.settled: list[Settlement] = []
        self.leases = Leases(self.settled.append)

    def open(self, size: int, need: Need = ONE) -> None:
        now = self.clock.time_ns()
        claim = self.terms.claim(need, now, block=size)
        hold = claim.hold(f"block-{size}", now + 60 * SECOND)
        self.leases.open(self.terms, claim, hold, size, now=now, began=self.clock.monotonic_ns())

    def take(self, need: Need = ONE) -> Block | None:
        return self.leases.take(self.terms, need)


async def test_a_block_is_good_for_so_many_and_no_more(clock: Clock) -> None:
    room = Room(key_terms(FAST), clock)
    room.open(3)
    assert [room.take() is not None for _ in range(4)] == [True, True, True, False]


async def test_a_block_ends_with_its_lease(clock: Clock) -> None:
    room = Room(key_terms(FAST), clock)
    room.open(3)
    clock.go_on(room.terms.lease / SECOND - 0.001)
    assert room.take()
    clock.go_on(0.001)
    assert room.take() is None


async def test_blocks_double_while_they_are_used_up_and_shrink_to_what_was_used(clock: Clock) -> None:
    room = Room(key_terms(FAST), clock)
    assert room.leases.size(room.terms, ONE) == 1
    room.open(4)
    assert room.leases.size(room.terms, ONE) == 8
    room.take()
    clock.go_on(1)
    assert room.leases.size(room.terms, ONE) == 1


@pytest.mark.parametrize(
    ("limits", "budget"),
    [(FAST, Budget()), (Limits(tokens_per_minute=4000), Budget()), (Limits(), Budget(total=4000e-9))],
)
async def test_a_block_leaves_the_most_to_others(clock: Clock, limits: Limits, budget: Budget) -> None:
    room = Room(key_terms(limits, budget), clock)
    room.open(1000)
    size = room.leases.size(room.terms, ONE)
    claim = room.terms.claim(ONE, clock.time_ns(), block=size)
    assert size > 1
    assert all(cost <= depth // SHARE for _, cost, depth in claim.draws)
    assert all(claim.nanos <= most // SHARE for _, most in claim.ceilings)


async def test_a_block_is_settled_once_when_its_last_request_has_ended(clock: Clock) -> None:
    room = Room(key_terms(Limits(tokens_per_minute=6000), Budget(total=1)), clock)
    room.open(4)
    one, two = room.take(), room.take()
    assert one is two
    assert one is not None
    room.leases.put_back(one, ONE, tokens=4, nanos=30)
    room.leases.close()
    room.leases.close()
    assert not room.settled
    room.leases.put_back(one, ONE, tokens=25, nanos=100)
    (settlement,) = room.settled
    assert settlement.nanos == 130
    assert settlement.used == (("tokens", 29 * SECOND // 100),)


async def test_what_a_request_did_not_take_is_there_for_the_next(clock: Clock) -> None:
    room = Room(key_terms(FAST, Budget(total=1)), clock)
    room.open(2)
    block = room.take(Need(nanos=200))
    assert block is not None
    assert room.take() is None
    room.leases.put_back(block, Need(nanos=200), nanos=50)
    assert room.take() is not None


async def test_one_that_did_not_begin_gives_its_permit_back(clock: Clock) -> None:
    room = Room(key_terms(FAST), clock)
    room.open(2)
    assert room.take()
    block = room.take()
    assert block
    room.leases.put_back(block, ONE, begun=False)
    assert room.take()


async def test_meters_that_nobody_asks_for_are_forgotten_and_their_holds_settled(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CAPACITY", 5)
    settled: list[Settlement] = []
    those = Leases(settled.append)
    for number in range(20):
        terms = replace(key_terms(FAST, Budget(total=1)), block=f"block {number}")
        those.turn(terms)
        claim = terms.claim(ONE, clock.time_ns(), block=1)
        hold = claim.hold(f"{number}", clock.time_ns() + SECOND)
        those.open(terms, claim, hold, 1, now=clock.time_ns(), began=clock.monotonic_ns())
        clock.go_on(2)
    assert len(those._blocks) <= 5
    assert len(those._turns) <= 5
    those.close()
    assert {each.hold.id for each in settled} == {f"{number}" for number in range(20)}
