"""What a request may take at most: the bounds bind, and what nobody could bound is bounded."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.limits.estimate import IMAGE, NOTHING, completion_bound, need_of, prompt_bound, prompt_guess
from penstock.errors import PermissionDenied, RequestTooLarge
from penstock.schema.key import Caller
from penstock.schema.limit import Budget, Limits
from penstock.schema.price import Price
from penstock.schema.request import CHAT, COMPLETIONS, EMBEDDINGS, Request
from tests.unit.core.limits.meters import a_request, key_terms

CAP = 4096
COUNTS = key_terms(Limits(tokens_per_minute=100_000))
PAYS = key_terms(budget=Budget(total=1))
CHEAP, DEAR = Price(input=10**6, output=2 * 10**6), Price(input=10**7, output=10**7)


def sent(endpoint: str = CHAT, **body: Any) -> Request:
    """A request as it comes from the wire."""
    size = len(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())
    return Request("r", endpoint, "m", body, False, Caller("k"), 0.0, size=size)


def said(content: Any, **body: Any) -> Request:
    return sent(messages=[{"role": "user", "content": content}], **body)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=200), min_size=1, max_size=8))
def test_a_prompt_has_no_more_tokens_than_its_bytes(texts: list[str]) -> None:
    """The finest tokenizers fall back to single bytes; a template adds a few tokens to each message."""
    messages = [{"role": "user", "content": text} for text in texts]
    assert prompt_bound(sent(messages=messages)) >= sum(len(text.encode()) + 8 for text in texts) + 30


def test_a_prompt_of_token_ids_has_no_more_than_are_written() -> None:
    assert prompt_bound(sent(COMPLETIONS, prompt=[1] * 1000)) >= 1000


def test_an_image_counts_as_an_image_and_not_as_its_bytes() -> None:
    far = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
    near = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10**6}}
    assert prompt_bound(said([far, far])) >= 2 * IMAGE
    assert IMAGE <= prompt_bound(said([near])) < 2 * IMAGE


def test_tools_add_what_a_vendor_explains_them_with() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    alone, with_tools = said("hi"), said("hi", tools=[tool])
    assert prompt_bound(with_tools) - prompt_bound(alone) > len(json.dumps(tool)) + 300


@pytest.mark.parametrize(
    "odd", [None, 3, "text", {"url": 1}, [1, None, {"image_url": None}, {"image_url": {"url": 4}}]]
)
def test_content_of_any_shape_is_bounded(odd: Any) -> None:
    assert prompt_bound(said(odd)) > 0
    assert prompt_guess(said(odd)) > 0


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({}, CAP),
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 7}, 7),
        ({"max_tokens": 900, "max_completion_tokens": 7}, 900),
        ({"max_tokens": None}, CAP),
        ({"n": 3}, 3 * CAP),
        ({"n": 3, "max_tokens": 7}, 21),
        ({"n": 2, "best_of": 5, "max_tokens": 7}, 35),
        ({"max_tokens": 0}, 0),
    ],
)
def test_an_answer_is_bounded_by_what_was_asked_or_by_the_cap(body: dict[str, Any], tokens: int) -> None:
    assert completion_bound(said("hi", **body), CAP) == tokens


@pytest.mark.parametrize(
    ("prompt", "answers"), [("one", 1), (["one", "two"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2), ([], 1)]
)
def test_each_prompt_of_a_list_is_answered(prompt: Any, answers: int) -> None:
    assert completion_bound(sent(COMPLETIONS, prompt=prompt, max_tokens=10, n=2), CAP) == 20 * answers


def test_an_embedding_has_no_answer_to_bound() -> None:
    assert completion_bound(sent(EMBEDDINGS, input="hi"), CAP) == 0


async def test_where_nothing_counts_nothing_is_needed_and_no_cap_is_set() -> None:
    request = a_request()
    assert need_of(request, [key_terms(Limits(concurrency=1))], [None], CAP) == NOTHING
    assert request.cap is None


async def test_an_answer_that_names_no_bound_is_capped() -> None:
    open_ended, bounded = a_request(), a_request(body={"max_tokens": 5})
    need_of(open_ended, [COUNTS], [None], CAP)
    need_of(bounded, [COUNTS], [None], CAP)
    assert (open_ended.cap, bounded.cap) == (CAP, None)


async def test_money_is_reserved_for_the_dearest_of_the_places_that_may_answer() -> None:
    request = a_request(body={"max_tokens": 5})
    need = need_of(request, [PAYS], [CHEAP, DEAR], CAP)
    assert need.nanos == DEAR.bound(need.tokens - 5, 5)


async def test_what_has_no_price_no_budget_can_pay() -> None:
    with pytest.raises(PermissionDenied, match="prices"):
        need_of(a_request(), [PAYS], [CHEAP, None], CAP)
    assert need_of(a_request(), [COUNTS], [None], CAP).nanos == 0


async def test_more_than_a_minutes_tokens_are_refused_for_good() -> None:
    with pytest.raises(RequestTooLarge, match="may use 100000 a minute"):
        need_of(a_request(body={"max_tokens": 100_000}), [COUNTS], [None], CAP)
