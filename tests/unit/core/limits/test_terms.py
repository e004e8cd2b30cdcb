"""Which limits hold for whom, and what is asked of a meter under them."""

from __future__ import annotations

from penstock.core.limits.terms import BURST, LEASE, Need, Plan
from penstock.schema.key import ANONYMOUS, Caller
from penstock.schema.limit import MINUTE, Budget, Limits
from penstock.schema.meter import SECOND, Draw
from penstock.schema.request import CHAT, EMBEDDINGS
from tests.unit.core.limits.meters import ONE, key_terms

FAST = Limits(requests_per_minute=6000, burst=100)
SLOW = Limits(requests_per_minute=60, burst=3)


def test_what_a_key_states_stands_in_the_place_of_the_configurations() -> None:
    plan = Plan(key=Limits(concurrency=5), key_budget=Budget(total=1))
    (terms,) = plan.of_caller(Caller("k", limits=Limits(concurrency=9)))
    assert (terms.slots, terms.budget) == (9, Budget(total=1))
    (terms,) = plan.of_caller(Caller("k", budget=Budget(daily=2)))
    assert (terms.slots, terms.budget) == (5, Budget(daily=2))


def test_without_a_limit_there_is_no_meter() -> None:
    plan = Plan()
    assert (plan.shared(CHAT), plan.of_caller(Caller("k", "o")), plan.of_address("1.2.3.4")) == (None, (), None)
    assert Plan(key=SLOW).of_caller(ANONYMOUS) == ()


def test_a_key_and_its_owner_are_two_meters() -> None:
    found = Plan(key=SLOW, owner=SLOW, owners={"big": FAST}).of_caller(Caller("k", "big"))
    assert [(terms.meter, terms.requests[0].per_minute) for terms in found] == [("key#k", 60), ("owner#big", 6000)]


def test_an_interval_is_rounded_so_that_no_limit_is_passed() -> None:
    for per_minute in (1, 7, 59, 777, 10**9):
        assert key_terms(Limits(requests_per_minute=per_minute)).requests[0].interval * per_minute >= MINUTE


def test_a_request_takes_one_and_its_tokens_at_most_all_there_are() -> None:
    terms = key_terms(Limits(requests_per_minute=60, burst=3, tokens_per_minute=600))
    claim = terms.claim(Need(tokens=20), 0)
    assert claim.draws == (Draw("requests", SECOND, 3 * SECOND),)
    assert claim.reserves == (Draw("tokens", 2 * SECOND, MINUTE),)
    assert terms.claim(Need(tokens=10**6), 0).reserves[0].cost == MINUTE


def test_rates_are_less_deep_for_everybody_where_any_process_may_hold_a_block() -> None:
    lives, frozen = (key_terms(FAST, Budget(total=1), long_lived=long) for long in (True, False))
    assert (lives.leased, frozen.leased) == (True, False)
    assert lives.requests == frozen.requests
    assert lives.requests[0].depth + lives.lease == 100 * lives.requests[0].interval
    assert lives.claim(ONE, 0, block=4).draws[0].depth == lives.claim(ONE, 0).draws[0].depth


def test_an_endpoint_of_its_own_changes_nothing_for_the_gateways_rate() -> None:
    plan = Plan(gateway=FAST, endpoints={EMBEDDINGS: SLOW})
    chat, embeddings = plan.shared(CHAT), plan.shared(EMBEDDINGS)
    assert chat is not None
    assert embeddings is not None
    assert (chat.leased, embeddings.leased) == (True, False)
    assert chat.requests[0] == embeddings.requests[0]
    assert embeddings.requests[1].depth == 3 * embeddings.requests[1].interval


def test_what_is_slow_or_narrow_or_counts_slots_is_exact() -> None:
    for limits in (
        SLOW,
        Limits(requests_per_minute=6000, burst=BURST - 1),
        Limits(requests_per_minute=6000, concurrency=9),
    ):
        terms = key_terms(limits)
        assert (terms.leased, terms.requests[0].depth) == (False, limits.at_once * terms.requests[0].interval)


def test_a_lease_is_short_beside_its_burst() -> None:
    assert key_terms(Limits(requests_per_minute=6000, burst=100)).lease == SECOND // 4
    assert key_terms(Limits(tokens_per_minute=100)).lease == LEASE


def test_a_meter_is_forgotten_when_nothing_of_it_counts_any_more() -> None:
    now = 1_795_262_400 * SECOND  # 2026-11-21
    assert key_terms(SLOW).claim(ONE, now).forget > now // SECOND + 3660
    assert key_terms(SLOW, Budget(daily=1)).claim(ONE, now).forget > now // SECOND + 40 * 86400
    assert key_terms(SLOW, Budget(daily=1, total=1)).claim(ONE, now).forget == 0
