"""A limiter: what it asks of the store, what it answers by itself, and what it does when the store is away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from penstock.core.limits import limiter as module
from penstock.core.limits.limiter import Limiter, Reservation
from penstock.core.limits.terms import Need, Plan
from penstock.errors import BudgetExceeded, RateLimited, StateError
from penstock.schema.limit import Budget, Limits
from penstock.schema.request import Request
from tests.unit.core.limits.meters import AWAY, ONE, Clock, Meters, MeterStore, a_request, until

EXACT = Limits(requests_per_minute=60, burst=3)
FAST = Limits(requests_per_minute=6000, burst=100)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    clock.put_before(monkeypatch)
    return clock  # type: ignore[return-value]


@pytest.fixture
def store(clock: Clock) -> MeterStore:
    return MeterStore()


def limiter(store: MeterStore, *, fail_open: bool = True, **plan: Any) -> Limiter:
    return Limiter(store, Plan(**plan), fail_open=fail_open)  # type: ignore[arg-type]


async def admit(those: Limiter, request: Request | None = None, need: Need = ONE) -> Reservation:
    request = request or a_request()
    return await those.reserve(request, those.terms(request), need)


async def as_many_as_go(those: Limiter, **more: Any) -> int:
    """How many requests are admitted until one is refused."""
    for number in range(1000):
        try:
            await admit(those, a_request(**more))
        except RateLimited:
            return number
    raise AssertionError("nothing is ever refused")


async def test_an_exact_request_is_one_call_to_the_store(store: MeterStore) -> None:
    those = limiter(store, key=EXACT, owner=EXACT, gateway=EXACT)
    await admit(those, a_request(owner="o"))
    assert store.asked == {"reserve": 1}


async def test_without_a_limit_the_store_is_not_asked(store: MeterStore) -> None:
    await admit(limiter(store))
    assert not store.asked


async def test_requests_out_of_a_block_ask_nobody(store: MeterStore) -> None:
    those = limiter(store, key=FAST)
    for _ in range(30):
        await admit(those)
    assert [claims[0].draws[0].cost // 10_000_000 for claims in store.claimed] == [1, 2, 4, 8, 9, 9]


async def test_a_refusal_is_remembered_and_its_wait_counts_down(store: MeterStore, clock: Clock) -> None:
    those = limiter(store, key=EXACT)
    for _ in range(3):
        await admit(those)
    waits = []
    for _ in range(3):
        with pytest.raises(RateLimited) as refused:
            await admit(those)
        waits.append(refused.value.retry_after)
        clock.go_on(0.25)
    assert waits == [1.0, 0.75, 0.5]
    assert store.asked["reserve"] == 4
    clock.go_on(0.25)
    await admit(those)


async def test_a_limit_that_was_raised_forgets_its_refusals(store: MeterStore) -> None:
    those = limiter(store)
    one_a_minute = Limits(requests_per_minute=1, burst=1)
    assert await as_many_as_go(those, limits=one_a_minute) == 1
    await admit(those, a_request(limits=None, budget=Budget(total=1)))


async def test_a_block_held_elsewhere_leaves_the_whole_within_the_burst(clock: Clock) -> None:
    """One process comes back to its block at its very end, when another has taken all that there was."""
    kept = Meters()
    here, there = (limiter(MeterStore(kept), key=FAST) for _ in range(2))
    for _ in range(8):  # 1 + 2 + 4 and the first of 8
        await admit(here)
    clock.go_on(0.2499)
    assert 75 <= await as_many_as_go(there) + await as_many_as_go(here) <= 100


@pytest.mark.parametrize("slept", [1.0, 3600.0])
async def test_a_block_ends_though_the_machine_slept(store: MeterStore, clock: Clock, slept: float) -> None:
    those = limiter(store, key=FAST)
    for _ in range(2):
        await admit(those)
    clock.wall += round(slept * 1e9)  # the monotonic clock stood still
    await admit(those)
    assert store.asked["reserve"] == 3


async def test_a_slot_is_free_for_the_next_request_of_the_same_process(store: MeterStore) -> None:
    those = limiter(store, key=Limits(concurrency=1))
    first = await admit(those)
    with pytest.raises(RateLimited, match="1 requests at a time"):
        await admit(those)
    those.settle(first, tokens=0, nanos=0)
    assert (await admit(those)).slots


async def test_a_settlement_counts_once(store: MeterStore) -> None:
    those = limiter(store, key=EXACT, key_budget=Budget(total=1e-6))
    reservation = await admit(those)
    for _ in range(2):
        those.settle(reservation, tokens=5, nanos=70)
    await those.settled()
    assert store.kept.meter("key#k").spent == {"total": 70}
    assert len(store.settlements) == 1


async def test_a_budget_is_spent_to_its_last_nano_dollar_and_no_further(store: MeterStore) -> None:
    those = limiter(store, key=EXACT, key_budget=Budget(total=250e-9))
    for _ in range(2):
        await admit(those)
    with pytest.raises(BudgetExceeded):
        await admit(those)
    await admit(those, need=ONE._replace(nanos=50))


async def test_while_the_store_is_away_rates_are_counted_here(store: MeterStore) -> None:
    those = limiter(store, key=EXACT)
    store.failure = AWAY
    for _ in range(3):
        await admit(those)
    with pytest.raises(RateLimited):
        await admit(those)


@pytest.mark.parametrize("how", [{"fail_open": False, "key": EXACT}, {"key_budget": Budget(total=1)}])
async def test_money_never_goes_on_without_the_store_nor_what_shall_not(store: MeterStore, how: dict[str, Any]) -> None:
    those = limiter(store, **how)
    store.failure = AWAY
    with pytest.raises(StateError):
        await admit(those)


async def test_what_was_granted_and_never_heard_of_is_freed(store: MeterStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AFTER", 0.0)
    those = limiter(store, key=Limits(concurrency=1), key_budget=Budget(total=1), fail_open=False)
    store.failure, store.too_late = AWAY, True
    with pytest.raises(StateError):
        await admit(those)
    assert store.kept.meter("key#k").slots == 1
    store.failure = None
    await until(lambda: not store.kept.meter("key#k").holds)
    assert (store.kept.meter("key#k").slots, store.kept.meter("key#k").spent) == (0, {"total": 0})


async def test_a_caller_who_leaves_while_he_is_admitted_leaves_nothing_behind(store: MeterStore) -> None:
    those = limiter(store, key=Limits(concurrency=1), key_budget=Budget(total=1))
    store.gate = asyncio.Event()
    asking = asyncio.ensure_future(admit(those))
    await until(lambda: bool(store.asked))
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    store.gate.set()
    await those.close()
    assert store.kept.meter("key#k").holds == {}


async def test_a_block_that_came_too_late_is_no_hold_of_its_requests(store: MeterStore, clock: Clock) -> None:
    """The store took longer than a block lasts: the request asks for itself, and what it spends is counted."""
    those = limiter(store, key_budget=Budget(total=1e-6))
    store.gate = asyncio.Event()
    asking = asyncio.ensure_future(admit(those))
    await until(lambda: store.asked["reserve"] == 1)
    clock.go_on(2)
    store.gate.set()
    reservation = await asking
    await those.close()  # both blocks end before the request does
    those.settle(reservation, tokens=0, nanos=90)
    await those.settled()
    assert store.kept.meter("key#k").spent == {"total": 90}


async def test_a_refused_request_gives_back_what_it_took_of_a_block(store: MeterStore) -> None:
    those = limiter(store, key_budget=Budget(total=1e-6), owner=EXACT)
    for _ in range(3):
        those.settle(await admit(those, a_request(owner="o")), tokens=0, nanos=10)
    assert await as_many_as_go(those, owner="o") == 0
    await those.close()
    assert (store.kept.meter("key#k").spent, store.kept.meter("key#k").holds) == ({"total": 30}, {})


async def test_headers_tell_the_tightest_rates(store: MeterStore, clock: Clock) -> None:
    those = limiter(store, key=Limits(requests_per_minute=60, burst=3, tokens_per_minute=600), gateway=FAST)
    request = a_request()
    await admit(those, request)
    assert request.standing is not None
    requests, tokens = request.standing
    assert requests == (60, 2, clock.time() + 1)
    assert tokens == (600, 590, clock.time() + 1)


async def test_closing_settles_every_block(store: MeterStore) -> None:
    those = limiter(store, key_budget=Budget(total=1e-6))
    reservation = await admit(those)
    those.settle(reservation, tokens=0, nanos=30)
    await those.close()
    assert (store.kept.meter("key#k").spent, store.kept.meter("key#k").holds) == ({"total": 30}, {})
