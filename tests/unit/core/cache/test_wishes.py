"""What shares an answer: nothing that differs in anything that could change it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.cache.wishes import EVERYONE, KEY, OWNER, is_safe, key_for, may_be_kept
from penstock.schema.key import Caller
from penstock.schema.request import CHAT, COMPLETIONS, EMBEDDINGS, Request

ASIDE = ("stream", "stream_options", "user")


def a_request(body: dict[str, Any] | None = None, **differs: Any) -> Request:
    plain = {"id": "req_1", "endpoint": CHAT, "model": "m", "stream": False, "caller": Caller("key_1"), "deadline": 0.0}
    return Request(**(plain | {"body": body or {}} | differs))  # type: ignore[arg-type]


values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.0, -0.0, 1.0, 0.5]) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=5,
)
bodies = st.dictionaries(st.sampled_from(["temperature", "messages", "tools", "seed", "n", *ASIDE, "x"]), values)
callers = st.builds(
    Caller,
    key_id=st.sampled_from(["key_1", "key_2", "owner:ada"]),
    owner=st.sampled_from(["", "ada", "bob", "key_1"]),
    providers=st.sampled_from([("*",), ("openai",), ("openai", "groq"), ("groq", "openai")]),
)
requests = st.builds(
    a_request,
    bodies,
    endpoint=st.sampled_from([CHAT, COMPLETIONS, EMBEDDINGS]),
    model=st.sampled_from(["m", "m2"]),
    caller=callers,
)


def what_matters(request: Request, shared_between: str) -> str:
    """All that may change the answer, and who may have it, written by another hand than the key's."""
    caller = request.caller
    among = {KEY: ["key", caller.key_id], OWNER: ["owner", caller.owner], EVERYONE: []}[shared_between]
    if shared_between == OWNER and not caller.owner:
        among = ["key", caller.key_id]
    said = {name: value for name, value in request.body.items() if name not in ASIDE}
    members = sorted((name, json.dumps(value)) for name, value in said.items())  # json.dumps keeps inner order
    return json.dumps([among, sorted(caller.providers), request.endpoint, request.model, members])


@given(requests, requests, st.sampled_from([KEY, OWNER, EVERYONE]))
def test_two_requests_share_an_answer_only_if_nothing_that_matters_differs(
    one: Request, other: Request, shared_between: str
) -> None:
    same = what_matters(one, shared_between) == what_matters(other, shared_between)
    assert (key_for(one, shared_between) == key_for(other, shared_between)) == same


@given(bodies, st.sampled_from(ASIDE), values)
def test_how_an_answer_is_sent_and_to_which_user_changes_no_word_of_it(
    body: dict[str, Any], name: str, value: object
) -> None:
    assert key_for(a_request(body), KEY) == key_for(a_request(body | {name: value}), KEY)


def test_the_order_of_a_schemas_members_matters_because_engines_write_it_into_the_prompt() -> None:
    one = {"tools": [{"function": {"name": "f", "parameters": {"properties": {"a": {}, "b": {}}}}}]}
    other = {"tools": [{"function": {"name": "f", "parameters": {"properties": {"b": {}, "a": {}}}}}]}
    assert key_for(a_request(one), KEY) != key_for(a_request(other), KEY)


def test_the_order_of_the_outermost_members_does_not() -> None:
    one, other = {"temperature": 0, "messages": []}, {"messages": [], "temperature": 0}
    assert key_for(a_request(one), KEY) == key_for(a_request(other), KEY)


def test_keys_of_one_owner_share_and_others_do_not() -> None:
    ada = [a_request(caller=Caller(f"key_{number}", owner="ada")) for number in range(2)]
    bob = a_request(caller=Caller("key_1", owner="bob"))
    nobody = a_request(caller=Caller("key_1"))
    assert key_for(ada[0], OWNER) == key_for(ada[1], OWNER)
    assert len({key_for(each, OWNER) for each in (ada[0], bob, nobody)}) == 3
    assert key_for(ada[0], KEY) != key_for(ada[1], KEY)
    assert len({key_for(each, EVERYONE) for each in (*ada, bob, nobody)}) == 1


def test_a_key_shows_nothing_of_the_prompt() -> None:
    key = key_for(a_request({"messages": [{"role": "user", "content": "canary"}]}), OWNER)
    assert len(key) == 64
    assert set(key) <= set("0123456789abcdef")


LINKED = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a.example/cat.png"}}]}]
SENT = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]}]


@pytest.mark.parametrize(
    ("body", "safe"),
    [
        ({"temperature": 0}, True),
        ({"temperature": 0.0, "n": 3}, True),
        ({"temperature": 0, "tools": [{"type": "function", "function": {"name": "f"}}]}, True),
        ({"temperature": 0, "messages": SENT}, True),
        ({}, False),
        ({"temperature": None}, False),
        ({"temperature": 0.1}, False),
        ({"seed": 1}, False),
        ({"temperature": 0, "messages": LINKED}, False),
        ({"temperature": 0, "tools": [{"type": "web_search"}]}, False),
        ({"temperature": 0, "web_search_options": {}}, False),
        ({"temperature": 0, "search_parameters": {"mode": "on"}}, False),
    ],
)
def test_safe_is_what_would_be_answered_the_same_again(body: dict[str, Any], safe: bool) -> None:
    assert is_safe(a_request(body)) is safe


def test_embeddings_are_always_safe() -> None:
    assert is_safe(a_request({"input": "a"}, endpoint=EMBEDDINGS))


def test_what_the_vendor_shall_store_is_for_the_vendor() -> None:
    assert not may_be_kept(a_request({"store": True}))
    assert may_be_kept(a_request({"store": False}))
