"""Refusals in words: which limit it is, what is left, and when to come again."""

from __future__ import annotations

from penstock.core.limits.refusals import SOON, explain
from penstock.core.limits.terms import Need, Plan, Terms
from penstock.errors import BudgetExceeded, ModelFull, PenstockError, RateLimited
from penstock.schema.limit import Budget, Limits
from penstock.schema.meter import SECOND, SLOTS, Refusal
from tests.unit.core.limits.meters import key_terms

TERMS = key_terms(
    Limits(requests_per_minute=60, burst=3, tokens_per_minute=600, concurrency=4), Budget(daily=1, total=9)
)
NEED = Need(tokens=250, nanos=1_500_000)


def told(*refusals: tuple[str, int | None, int], terms: Terms = TERMS) -> tuple[PenstockError, str, str]:
    return explain([Refusal("key#k", *each) for each in refusals], [terms], NEED)


def test_a_rate_of_requests_says_its_numbers_and_the_exact_wait() -> None:
    error, scope, kind = told(("requests", 1_250_000_000, 0))
    assert isinstance(error, RateLimited)
    assert error.message == (
        "Rate limit exceeded: 60 requests a minute, 3 of them at once, are allowed for this API key."
        " Try again in 1.25 seconds."
    )
    assert (error.retry_after, scope, kind) == (1.25, "key", "requests")


def test_a_rate_of_tokens_says_what_the_request_may_take() -> None:
    error, _, kind = told(("tokens", 30 * SECOND, 0))
    assert "600 tokens a minute are allowed for this API key, and this request may take 250" in error.message
    assert (error.retry_after, kind) == (30.0, "tokens")


def test_slots_say_how_many_there_are_and_to_come_again_soon() -> None:
    error, _, kind = told((SLOTS, None, 0))
    assert error.message.startswith("Rate limit exceeded: 4 requests at a time are allowed for this API key")
    assert (error.retry_after, kind) == (SOON, "concurrency")


def test_a_full_model_is_told_apart() -> None:
    terms = Plan(models={"m": Limits(concurrency=4)}).of_model("m")
    assert terms is not None
    error, scope, _ = explain([Refusal("model#m", SLOTS, None, 0)], [terms], NEED)
    assert isinstance(error, ModelFull)
    assert error.message.startswith("Rate limit exceeded: 4 requests at a time are allowed for this model")
    assert (error.status, error.retry_after, scope) == (429, SOON, "model")


def test_a_budget_says_what_is_left_and_when_it_is_renewed() -> None:
    error, _, kind = told(("2026-11-21", None, 1_000_000))
    assert isinstance(error, BudgetExceeded)
    assert error.message == (
        "You exceeded your current quota: of the daily budget of this API key, $0.001 is left, and this request may"
        " cost $0.0015. It is renewed at 2026-11-22T00:00:00Z."
    )
    assert kind == "daily budget"


def test_a_total_is_never_renewed_and_a_debt_is_no_money() -> None:
    error, _, kind = told(("total", None, -5))
    assert "$0 is left" in error.message
    assert "renewed" not in error.message
    assert kind == "total budget"


def test_every_period_is_called_by_its_name() -> None:
    names = [told((window, None, 0))[2] for window in ("2026-11-21", "2026-W47", "2026-11", "total")]
    assert names == ["daily budget", "weekly budget", "monthly budget", "total budget"]


def test_money_goes_before_time_and_the_longest_wait_before_the_others() -> None:
    assert told(("requests", 90 * SECOND, 0), ("total", None, 0))[2] == "total budget"
    assert told(("requests", 2 * SECOND, 0), ("tokens", 3 * SECOND, 0), (SLOTS, None, 0))[2] == "tokens"
