"""Laws of limits: what a store grants, refuses, settles and ends, one step after the other."""

from __future__ import annotations

import uuid
from dataclasses import replace

from penstock.core.ports import Store
from penstock.schema.meter import SECOND, SLOTS, Claim, Draw, Hold, Settlement
from tests.laws.stores.records import NOW

T0 = int(NOW) * SECOND
LATER = T0 + 600 * SECOND


def requests(amount: int = 1, *, per_second: int = 1, burst: int = 3) -> Draw:
    """A draw of a rate of ``per_second`` with a ``burst``."""
    return Draw("requests", amount * SECOND // per_second, burst * SECOND // per_second)


def rated(meter: str = "key#a", **rate: int) -> Claim:
    """A claim of one request."""
    return Claim(meter, draws=(requests(**rate),))


def slot(meter: str = "key#a", most: int = 1) -> Claim:
    """A claim of one of ``most`` slots."""
    return Claim(meter, slots=1, max_slots=most, held=True)


def money(nanos: int, most: int, meter: str = "key#a", window: str = "2026-11-21") -> Claim:
    """A claim of money."""
    return Claim(meter, nanos=nanos, ceilings=((window, most),), held=True)


def new_id() -> str:
    return uuid.uuid4().hex


async def granted(store: Store, *claims: Claim, now: int = T0, id: str = "", expires: int = LATER) -> bool:
    """Whether the store grants the claims."""
    return not (await store.reserve(id or new_id(), claims, now=now, expires=expires)).refusals


def held(claim: Claim, id: str, expires: int = LATER) -> Hold:
    """What a granted claim holds."""
    hold = claim.hold(id, expires)
    assert hold is not None
    return hold


# rates


async def test_a_burst_is_granted_at_once_and_then_one_an_interval(store: Store) -> None:
    assert [await granted(store, rated()) for _ in range(4)] == [True, True, True, False]
    assert not await granted(store, rated(), now=T0 + SECOND - 1)
    assert await granted(store, rated(), now=T0 + SECOND)
    assert not await granted(store, rated(), now=T0 + SECOND)


async def test_a_refusal_names_the_exact_time_to_wait(store: Store) -> None:
    for _ in range(3):
        assert await granted(store, rated(), now=T0)
    now = T0 + 300_000_001
    [refusal] = (await store.reserve(new_id(), [rated()], now=now, expires=LATER)).refusals
    assert (refusal.meter, refusal.what, refusal.wait) == ("key#a", "requests", SECOND - 300_000_001)
    assert not await granted(store, rated(), now=now + (refusal.wait or 0) - 1)
    assert await granted(store, rated(), now=now + (refusal.wait or 0))


async def test_an_idle_rate_saves_up_no_more_than_its_burst(store: Store) -> None:
    assert await granted(store, rated(), now=T0)
    much_later = T0 + 3600 * SECOND
    assert [await granted(store, rated(), now=much_later) for _ in range(4)] == [True, True, True, False]


async def test_more_than_a_whole_burst_is_never_granted(store: Store) -> None:
    [refusal] = (await store.reserve(new_id(), [rated(amount=4)], now=T0, expires=LATER)).refusals
    assert refusal.wait is None
    assert await granted(store, rated(amount=3)), "a refusal takes nothing"


async def test_rates_of_one_meter_are_kept_apart(store: Store) -> None:
    chat, embeddings = (Claim("house", draws=(requests()._replace(rate=rate),)) for rate in ("chat", "embeddings"))
    for _ in range(3):
        assert await granted(store, chat)
    assert not await granted(store, chat)
    assert await granted(store, embeddings)


async def test_a_clock_that_goes_back_grants_nothing_more(store: Store) -> None:
    for _ in range(3):
        assert await granted(store, rated(), now=T0)
    assert not await granted(store, rated(), now=T0 - 10 * SECOND)


# several claims


async def test_claims_are_granted_together_or_not_at_all(store: Store) -> None:
    house, key = rated("house", burst=5), rated("key#a", burst=1)
    assert await granted(store, house, key)
    verdict = await store.reserve(new_id(), [house, key], now=T0, expires=LATER)
    assert [refusal.meter for refusal in verdict.refusals] == ["key#a"]
    for _ in range(4):
        assert await granted(store, house), "what was refused took nothing of the house"
    assert not await granted(store, house)


async def test_every_meter_that_refuses_is_named(store: Store) -> None:
    one, two, three = rated("address#1", burst=1), rated("key#a", burst=1, per_second=2), rated("house", burst=9)
    assert await granted(store, one, two, three)
    verdict = await store.reserve(new_id(), [one, two, three], now=T0, expires=LATER)
    waits = {refusal.meter: refusal.wait for refusal in verdict.refusals}
    assert waits == {"address#1": SECOND, "key#a": SECOND // 2}


async def test_a_verdict_tells_how_the_rates_stand(store: Store) -> None:
    verdict = await store.reserve(new_id(), [rated(), rated("house")], now=T0, expires=LATER)
    assert verdict.tats == {("key#a", "requests"): T0 + SECOND, ("house", "requests"): T0 + SECOND}


# slots


async def test_a_slot_is_free_again_once_it_is_settled(store: Store) -> None:
    assert await granted(store, slot(), id="one")
    [refusal] = (await store.reserve("two", [slot()], now=T0, expires=LATER)).refusals
    assert (refusal.what, refusal.wait, refusal.room) == (SLOTS, None, 0)
    assert await store.settle([Settlement(held(slot(), "one"))]) == 1
    assert await granted(store, slot(), id="two")


async def test_a_settlement_counts_once(store: Store) -> None:
    for name in ("one", "two"):
        assert await granted(store, slot(most=2), id=name)
    settlement = Settlement(held(slot(), "one"))
    assert [await store.settle([settlement]) for _ in range(3)] == [1, 0, 0]
    assert await granted(store, slot(most=2))
    assert not await granted(store, slot(most=2))


async def test_a_repeated_reservation_is_granted_and_taken_once(store: Store) -> None:
    claims = [replace(slot(most=5), draws=(requests(),)), replace(money(10, 100, "owner#o"), draws=(requests(),))]
    for _ in range(3):
        assert not (await store.reserve("one", claims, now=T0, expires=LATER)).refusals
    meter = await store.read_meter("key#a")
    assert meter.slots == 1
    assert meter.tats == {"requests": T0 + SECOND}
    assert (await store.read_meter("owner#o")).spent == {"2026-11-21": 10}


# money


async def test_money_is_reserved_and_what_was_not_spent_comes_back(store: Store) -> None:
    claim = money(60, 100)
    assert await granted(store, claim, id="one")
    [refusal] = (await store.reserve("two", [claim], now=T0, expires=LATER)).refusals
    assert (refusal.what, refusal.wait, refusal.room) == ("2026-11-21", None, 40)
    assert await store.settle([Settlement(held(claim, "one"), nanos=25)]) == 1
    assert (await store.read_meter("key#a")).spent == {"2026-11-21": 25}
    assert await granted(store, claim, id="two")


async def test_a_budget_can_be_spent_to_its_last_nano_dollar(store: Store) -> None:
    assert await granted(store, money(100, 100))
    assert not await granted(store, money(1, 100))
    assert await granted(store, money(0, 100)), "what costs nothing needs no money"


async def test_a_budget_is_held_in_each_of_its_windows(store: Store) -> None:
    claim = Claim("key#a", nanos=30, ceilings=(("2026-11-21", 50), ("2026-11", 100), ("total", 1000)), held=True)
    assert await granted(store, claim, id="one")
    [refusal] = (await store.reserve("two", [claim], now=T0, expires=LATER)).refusals
    assert refusal.what == "2026-11-21"
    tomorrow = replace(claim, ceilings=(("2026-11-22", 50), ("2026-11", 100), ("total", 1000)))
    assert await granted(store, tomorrow, id="two")
    assert await store.settle([Settlement(held(claim, "one"), nanos=7)]) == 1
    spent = {"2026-11-21": 7, "2026-11-22": 30, "2026-11": 37, "total": 37}
    assert (await store.read_meter("key#a")).spent == spent


async def test_more_than_a_whole_budget_is_never_granted(store: Store) -> None:
    assert not await granted(store, money(101, 100))
    [refusal] = (await store.reserve(new_id(), [money(101, 100)], now=T0, expires=LATER)).refusals
    assert refusal.room == 100


# tokens


def tokens(seconds: int = 8) -> Claim:
    """A claim of tokens that come back in so many seconds, of ten seconds' worth in all."""
    return Claim("key#a", reserves=(Draw("tokens", seconds * SECOND, 10 * SECOND),), held=True)


async def test_tokens_that_were_not_used_are_free_at_once(store: Store) -> None:
    assert await granted(store, tokens(), id="one")
    assert not await granted(store, tokens(), id="two")
    settlement = Settlement(held(tokens(), "one"), used=(("tokens", 2 * SECOND),), at=T0)
    assert [await store.settle([settlement]) for _ in range(2)] == [1, 0]
    meter = await store.read_meter("key#a")
    assert (meter.tats, meter.open) == ({"tokens": T0 + 2 * SECOND}, {"tokens": 0})
    assert await granted(store, tokens(), id="two")


async def test_tokens_beyond_the_estimate_are_owed(store: Store) -> None:
    assert await granted(store, tokens(), id="one")
    settlement = Settlement(held(tokens(), "one"), used=(("tokens", 12 * SECOND),), at=T0)
    assert await store.settle([settlement]) == 1
    [refusal] = (await store.reserve("two", [tokens()], now=T0, expires=LATER)).refusals
    assert refusal.wait == 10 * SECOND


async def test_what_is_reserved_of_a_rate_does_not_come_back_with_time(store: Store) -> None:
    assert await granted(store, tokens(), id="one")
    later = T0 + 60 * SECOND
    [refusal] = (await store.reserve("two", [tokens()], now=later, expires=LATER)).refusals
    assert (refusal.wait, refusal.room) == (None, 2 * SECOND), "time does not help, only the other's end"
    assert await granted(store, tokens(2), id="two", now=later)
    assert not await granted(store, tokens(1), now=later)
    assert await store.settle([Settlement(held(tokens(), "one"), used=(("tokens", 3 * SECOND),), at=later)]) == 1
    assert [await granted(store, tokens(5), now=later) for _ in range(2)] == [True, False]


async def test_reserved_and_taken_tokens_are_together_within_the_rate(store: Store) -> None:
    for second, (name, used) in enumerate([("one", 4), ("two", 1), ("three", 3)]):
        now = T0 + second * SECOND
        assert await granted(store, tokens(4), id=name, now=now)
        settlement = Settlement(held(tokens(4), name), used=(("tokens", used * SECOND),), at=now)
        assert await store.settle([settlement]) == 1
    now = T0 + 2 * SECOND
    [refusal] = (await store.reserve("four", [tokens(5)], now=now, expires=LATER)).refusals
    assert (refusal.wait, refusal.room) == (SECOND, 4 * SECOND), "8 were taken, of which 2 have come back"
    assert await granted(store, tokens(4), now=now, id="four")
    verdict = await store.reserve("five", [tokens(1)], now=now, expires=LATER)
    assert verdict.tats == {("key#a", "tokens"): now + 10 * SECOND}


# death


async def test_an_expired_hold_gives_its_slot_back_to_whoever_asks(store: Store) -> None:
    assert await granted(store, slot(), id="dead", expires=T0 + SECOND)
    assert not await granted(store, slot(), now=T0 + SECOND - 1)
    assert await granted(store, slot(), now=T0 + SECOND, id="alive")
    assert await store.settle([Settlement(held(slot(), "dead"))]) == 0, "the dead one's late word changes nothing"
    assert (await store.read_meter("key#a")).slots == 1


async def test_what_an_expired_hold_may_have_cost_counts_as_spent(store: Store) -> None:
    assert await granted(store, money(60, 100), id="dead", expires=T0 + SECOND)
    assert not await granted(store, money(60, 100), now=T0 + SECOND)
    meter = await store.read_meter("key#a")
    assert (meter.spent, meter.holds) == ({"2026-11-21": 60}, {})


async def test_what_an_expired_hold_reserved_of_a_rate_counts_as_used(store: Store) -> None:
    assert await granted(store, tokens(), id="dead", expires=T0 + SECOND)
    verdict = await store.reserve("alive", [tokens()], now=T0 + SECOND, expires=LATER)
    assert [refusal.wait for refusal in verdict.refusals] == [6 * SECOND]
    assert [hold.id for hold in verdict.lost] == ["dead"]
    meter = await store.read_meter("key#a")
    assert (meter.tats, meter.open, meter.holds) == ({"tokens": T0 + 9 * SECOND}, {"tokens": 0}, {})
    assert await granted(store, tokens(), now=T0 + 7 * SECOND)


async def test_expired_holds_are_ended_once_by_whoever_looks(store: Store) -> None:
    claim = replace(money(60, 100), slots=1, max_slots=3)
    for name in ("dead", "dead too"):
        assert await granted(store, replace(claim, nanos=20), id=name, expires=T0 + SECOND)
    assert await granted(store, replace(claim, nanos=20), id="alive")
    assert await store.end_expired(T0 + SECOND - 1) == []
    assert {hold.id for hold in await store.end_expired(T0 + SECOND)} == {"dead", "dead too"}
    assert await store.end_expired(T0 + SECOND) == []
    meter = await store.read_meter("key#a")
    assert (meter.slots, meter.spent, set(meter.holds)) == (1, {"2026-11-21": 60}, {"alive"})
    assert [hold.id for hold in await store.end_expired(LATER)] == ["alive"]
    assert (await store.read_meter("key#a")).slots == 0


async def test_a_hold_made_after_a_look_is_found_by_the_next_one(store: Store) -> None:
    for turn in range(3):
        expires = T0 + (turn + 1) * SECOND
        assert await granted(store, slot(), id=f"dead-{turn}", now=expires - SECOND, expires=expires)
        assert [hold.id for hold in await store.end_expired(expires)] == [f"dead-{turn}"]


async def test_a_meter_that_nobody_used_is_empty(store: Store) -> None:
    meter = await store.read_meter("key#nobody")
    assert (meter.tats, meter.slots, meter.spent, meter.holds) == ({}, 0, {}, {})
