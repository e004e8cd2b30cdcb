"""What is charged: whole nano-dollars, rounded up once, and never more than was reserved for it."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.schema.outcome import Usage
from penstock.schema.price import MILLION, NANO, Price, dollars, nanos

GPT_4O = Price(input=nanos(2.5), cached_input=nanos(1.25), output=nanos(10))

rates = st.integers(0, 10**15)
tokens = st.integers(0, 10**9)
prices = st.builds(
    Price, input=rates, cached_input=st.none() | rates, output=rates, image=st.integers(0, 10**12), gpu_second=rates
)


def test_a_million_tokens_cost_their_price() -> None:
    assert GPT_4O.cost(Usage(prompt_tokens=MILLION)) == 2_500_000_000
    assert GPT_4O.cost(Usage(completion_tokens=MILLION)) == 10 * NANO
    assert GPT_4O.cost(Usage(prompt_tokens=MILLION, cached_tokens=MILLION)) == 1_250_000_000


def test_cached_tokens_are_a_part_of_the_prompt() -> None:
    assert GPT_4O.cost(Usage(prompt_tokens=1000, cached_tokens=400, completion_tokens=10)) == (
        600 * 2500 + 400 * 1250 + 10 * 10_000
    )


def test_where_no_price_for_cached_tokens_is_known_they_cost_as_much_as_others() -> None:
    assert Price(input=nanos(3)).cost(Usage(prompt_tokens=10, cached_tokens=10)) == 30_000


def test_a_provider_that_counts_more_cached_tokens_than_the_prompt_has_earns_nobody_money() -> None:
    assert GPT_4O.cost(Usage(prompt_tokens=5, cached_tokens=50)) == 5 * 1250


def test_images_and_seconds_of_a_gpu_cost_theirs() -> None:
    price = Price(image=nanos(0.04), gpu_second=nanos(0.001))
    assert price.cost(Usage(), images=3) == nanos(0.12)
    assert price.cost(Usage(), seconds=0.1) == nanos(0.0001)


def test_it_is_rounded_up_once_and_not_for_each_part() -> None:
    price = Price(input=1, output=1, gpu_second=1)
    assert price.cost(Usage(prompt_tokens=1)) == 1
    assert price.cost(Usage(prompt_tokens=1, completion_tokens=1), seconds=0.1) == 1
    assert price.cost(Usage()) == 0


@given(price=prices, prompt=tokens, cached=tokens, completion=tokens, milliseconds=st.integers(0, 10**7))
def test_a_cost_is_the_exact_one_rounded_up(
    price: Price, prompt: int, cached: int, completion: int, milliseconds: int
) -> None:
    cached = min(cached, prompt)
    cheap = price.input if price.cached_input is None else price.cached_input
    exact = Fraction((prompt - cached) * price.input + cached * cheap + completion * price.output, MILLION)
    exact += Fraction(milliseconds, 1000) * price.gpu_second + 2 * price.image
    cost = price.cost(Usage(prompt, completion, cached), seconds=milliseconds / 1000, images=2)
    assert cost - 1 < exact <= cost


@given(price=prices, used=st.builds(Usage, tokens, tokens, tokens), spare=tokens, seconds=st.floats(0, 10**4))
def test_no_cost_goes_beyond_its_bound(price: Price, used: Usage, spare: int, seconds: float) -> None:
    cost = price.cost(used, seconds=seconds, images=1)
    prompt, completion = used.prompt_tokens, used.completion_tokens
    assert cost <= price.bound(prompt, completion, seconds=seconds, images=1)
    assert cost <= price.bound(prompt + spare, completion + spare, seconds=seconds + 1, images=2)


@pytest.mark.parametrize(
    ("shown", "counted"), [(0.0, 0), (2.5, 2_500_000_000), (0.003625, 3_625_000), (1e-9, 1), (0.1, 100_000_000)]
)
def test_dollars_and_nano_dollars_are_the_same_money(shown: float, counted: int) -> None:
    assert nanos(shown) == counted
    assert dollars(counted) == shown
