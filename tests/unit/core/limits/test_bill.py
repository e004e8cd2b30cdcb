"""What a request came to: by its provider's word, or else by what was seen of it."""

from __future__ import annotations

import asyncio

import pytest

from penstock.core.limits.bill import Bill, bill
from penstock.core.limits.estimate import prompt_guess
from penstock.core.limits.terms import Need
from penstock.core.ports import Call
from penstock.errors import UpstreamBusy, UpstreamRefused, UpstreamTimeout, UpstreamUnavailable
from penstock.schema.key import Caller
from penstock.schema.outcome import Usage
from penstock.schema.price import Price
from penstock.schema.request import CHAT, Request

PRICE = Price(input=10**6, output=2 * 10**6)  # a nano-dollar and two for a token
NEED = Need(tokens=5000, nanos=9000, prompt=1000)
REQUEST = Request("r", CHAT, "m", {}, False, Caller("k"), 0.0, size=400)


def came_to(
    *,
    payloads: int = 0,
    streamed: bool = False,
    reported: Usage | None = None,
    price: Price | None = PRICE,
    error: BaseException | None = None,
) -> Bill:
    call = Call(CHAT, {}, 0.0, "r", payloads=payloads, streamed=streamed)
    return bill(REQUEST, NEED, call, reported=reported, price=price, seconds=1.0, error=error)


def test_what_the_provider_counted_is_what_it_cost() -> None:
    assert came_to(reported=Usage(100, 20)) == Bill(Usage(100, 20), 120, 140)


def test_more_than_was_reserved_is_billed_as_it_came() -> None:
    assert came_to(reported=Usage(9000, 9000)).tokens == 18_000


def test_what_was_refused_or_out_of_order_cost_nothing() -> None:
    for error in (UpstreamUnavailable("no connection"), UpstreamBusy("full"), UpstreamRefused("no", status=400)):
        assert came_to(error=error) == Bill(Usage(), 0, 0)
        assert came_to(error=error, streamed=True, price=Price(gpu_second=10**9)) == Bill(Usage(), 0, 0)


def test_a_stream_that_was_cut_cost_its_prompt_and_what_came_of_it() -> None:
    guess = prompt_guess(REQUEST)
    found = came_to(payloads=30, streamed=True, error=GeneratorExit())
    assert found == Bill(Usage(guess, 30), guess + 30, guess + 60)


@pytest.mark.parametrize("error", [asyncio.CancelledError(), GeneratorExit(), UpstreamTimeout("late")])
def test_an_answer_that_nobody_could_watch_may_have_cost_all_that_was_reserved(error: BaseException) -> None:
    found = came_to(error=error)
    assert (found.tokens, found.nanos) == (NEED.tokens, NEED.nanos)


def test_a_provider_that_said_no_cost_nothing() -> None:
    assert came_to(error=UpstreamUnavailable("down")) == Bill(Usage(), 0, 0)


def test_without_a_price_nobody_knows_the_cost() -> None:
    assert came_to(reported=Usage(1, 1), price=None).nanos is None
