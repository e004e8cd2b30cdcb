"""The arithmetic of meters: what is granted in any time, and how a hold ends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.schema.meter import SECOND, Claim, Draw, Hold, Meter, Settlement, overdue

DEPTH = 10 * SECOND


@given(st.lists(st.tuples(st.integers(-2 * SECOND, 20 * SECOND), st.integers(1, DEPTH)), max_size=30))
def test_in_any_time_a_rate_grants_no_more_than_its_depth_and_that_time(asked: list[tuple[int, int]]) -> None:
    meter, now, granted = Meter(), 1000 * SECOND, []
    for step, cost in asked:
        now += step
        claim = Claim("m", (Draw("r", cost, DEPTH),))
        if not meter.refusals(claim, now):
            meter.grant(claim, now, None)
            granted.append((now, cost))
    for begin, _ in granted:
        for end, _ in granted:
            inside = sum(cost for at, cost in granted if begin <= at <= end)
            assert begin > end or inside <= DEPTH + end - begin


@given(st.integers(0, 40 * SECOND), st.integers(1, DEPTH))
def test_a_refusal_is_granted_exactly_when_its_wait_is_over(taken: int, cost: int) -> None:
    meter, claim = Meter({"r": taken}), Claim("m", (Draw("r", cost, DEPTH),))
    for refusal in meter.refusals(claim, 0):
        assert refusal.wait is not None
        assert meter.refusals(claim, refusal.wait - 1)
        assert not meter.refusals(claim, refusal.wait)


def test_a_hold_is_settled_once_and_gives_back_what_it_did_not_take() -> None:
    meter = Meter()
    claim = Claim("m", slots=1, max_slots=1, nanos=60, ceilings=(("total", 100),), held=True)
    hold = claim.hold("one", 10)
    assert hold is not None
    meter.grant(claim, 0, hold)
    assert [meter.settle(Settlement(hold, 25)), meter.settle(Settlement(hold, 25))] == [True, False]
    assert (meter.slots, meter.spent, meter.holds) == (0, {"total": 25}, {})


def test_a_hold_that_nobody_settled_has_cost_all_that_it_may_have() -> None:
    hold = Hold("one", "m", 10, slots=1, nanos=60, windows=("total",))
    meter = Meter(slots=1, spent={"total": 60}, holds={"one": hold})
    assert (meter.expired(9), meter.expired(10)) == ([], [hold])
    for settlement in overdue(meter.expired(10), 10):
        assert meter.settle(settlement)
    assert (meter.slots, meter.spent) == (0, {"total": 60})


def test_tokens_that_come_back_late_make_no_more_room_than_there_would_have_been() -> None:
    meter, now, used = Meter(), 0, 0
    claim = Claim("m", reserves=(Draw("r", 8 * SECOND, DEPTH),), held=True)
    old = claim.hold("old", 10**12)
    assert old is not None
    meter.grant(claim, now, old)
    now += 60 * SECOND
    for settlement in (None, Settlement(old, at=now), None):
        if settlement is not None:
            meter.settle(settlement)
        if not meter.refusals(claim, now):
            meter.grant(claim, now, None)
            used += 8 * SECOND
    assert used == 8 * SECOND <= DEPTH


def test_what_is_open_and_what_was_taken_are_together_within_the_rate() -> None:
    meter = Meter()
    claim = Claim("m", reserves=(Draw("r", 4 * SECOND, DEPTH),), held=True)
    one, two = (claim.hold(name, 10**12) for name in ("one", "two"))
    assert one is not None
    assert two is not None
    for hold in (one, two):
        meter.grant(claim, 0, hold)
    [refusal] = meter.refusals(claim, 0)
    assert (refusal.wait, refusal.room) == (None, DEPTH - 8 * SECOND), "only the end of another helps"
    meter.settle(Settlement(one, used=(("r", 3 * SECOND),), at=5 * SECOND))
    assert (meter.tats, meter.open) == ({"r": 8 * SECOND}, {"r": 4 * SECOND})
    assert meter.fronts(6 * SECOND) == {"r": 12 * SECOND}


def test_a_claim_that_no_meter_could_grant_is_told_apart() -> None:
    assert Claim("m", (Draw("r", 2, 1),)).impossible
    assert Claim("m", nanos=2, ceilings=(("total", 1),)).impossible
    assert not Claim("m", (Draw("r", 1, 1),), nanos=1, ceilings=(("total", 1),)).impossible
