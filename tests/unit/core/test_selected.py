"""What was selected of a provider holds for requests that leave it open, and for no others."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.core.selected import call_to
from penstock.schema.key import Caller
from penstock.schema.model import Deployment
from penstock.schema.request import CHAT, COMPLETIONS, EMBEDDINGS, Request

PLACE = Deployment("p/m", "m", "p", "openai", "up", "http://x", max_tokens=100, temperature=0.3)


def request(endpoint: str = CHAT, cap: int | None = None, **body: Any) -> Request:
    return Request("r", endpoint, "m", body, False, Caller("k"), 0.0, cap=cap)


@pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS])
def test_what_a_request_leaves_open_is_as_selected(endpoint: str) -> None:
    asked = request(endpoint)
    call = call_to(PLACE, asked, 7)
    assert (call.body, call.cap, call.prompt) == ({"temperature": 0.3}, 100, 7)
    assert asked.body == {}, "another place may have to be asked"


@pytest.mark.parametrize(
    "body", [{"temperature": 0, "max_tokens": 500}, {"temperature": 2, "max_completion_tokens": 9}]
)
def test_what_it_says_itself_stays(body: dict[str, Any]) -> None:
    call = call_to(PLACE, request(**body), 0)
    assert (call.body, call.cap) == (body, None)


@pytest.mark.parametrize(("cap", "least"), [(50, 50), (4096, 100)])
def test_of_two_bounds_the_smaller_holds(cap: int, least: int) -> None:
    assert call_to(PLACE, request(cap=cap), 0).cap == least


def test_embeddings_and_places_of_which_nothing_was_selected_are_left_alone() -> None:
    assert call_to(PLACE, request(EMBEDDINGS), 0).body == {}
    plain = Deployment("p/m", "m", "p", "openai", "up", "http://x")
    asked = request(cap=9)
    call = call_to(plain, asked, 0)
    assert call.body is asked.body
    assert call.cap == 9
