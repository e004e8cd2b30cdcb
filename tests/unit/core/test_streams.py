"""The relay: bytes on their way through, under the public model's name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.streams import Relay, read_usage
from penstock.errors import UpstreamProtocolError
from penstock.schema.outcome import Usage

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["up", "model", '"model":"up"', "{}", "x"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["model", "a", "choices"]), inner, max_size=3)
    ),
    max_leaves=6,
)
MODEL = st.sampled_from(["up", "other", "public", "", None, 7, 'q"uote'])
CHUNKS = st.builds(
    lambda before, model, after: {**before, **model, **after},
    st.dictionaries(st.sampled_from(["id", "x"]), VALUES, max_size=2),
    st.just({}) | MODEL.map(lambda name: {"model": name}),
    st.dictionaries(st.sampled_from(["choices", "y"]), VALUES, max_size=2),
)
SPACES = st.sampled_from([(",", ":"), (", ", ": "), (" ,", " : ")])


@given(st.lists(st.tuples(CHUNKS, SPACES), min_size=1, max_size=6), st.integers(1, 3))
def test_every_chunk_is_the_same_but_for_the_name(chunks: list[tuple[dict[str, Any], Any]], size: int) -> None:
    relay = Relay("public", show_usage=False)
    payloads = [json.dumps(chunk, separators=separators).encode() for chunk, separators in chunks]
    out = [each for start in range(0, len(payloads), size) for each in relay.see(payloads[start : start + size])]
    assert [json.loads(each) for each in out] == [{**chunk, "model": "public"} for chunk, _ in chunks]


def test_odd_spacing_changes_nothing_that_a_reader_sees() -> None:
    relay = Relay("up", show_usage=False)
    payload = b'{"model" : "up" , "odd":1.00}'
    assert [json.loads(each) for each in relay.see([payload, payload])] == [json.loads(payload)] * 2


def test_a_compact_payload_under_the_right_name_is_the_same_object() -> None:
    relay = Relay("up", show_usage=False)
    payload = b'{"model":"up","choices":[]}'
    relay.see([payload])
    assert relay.see([payload])[0] is payload


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"[]", b'{"model":"up","choices":[{"delta":{"con', b"\xff\xfe"], ids=repr
)
def test_what_is_no_chunk_is_an_error_first_and_later(payload: bytes) -> None:
    good = b'{"model":"up","choices":[]}'
    for before in ([], [good]):
        relay = Relay("public", show_usage=False)
        if before:
            relay.see(before)
        with pytest.raises(UpstreamProtocolError):
            relay.see([payload])
        with pytest.raises(UpstreamProtocolError):
            Relay("public", show_usage=False).see([*before, payload])


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4}, Usage(3, 4)),
        ({"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}, Usage(3, 0, 2)),
        ({"prompt_tokens": 3, "prompt_tokens_details": None}, Usage(3)),
        ({"prompt_tokens": -3, "completion_tokens": "4"}, Usage()),
        ({"prompt_tokens": 10**30, "completion_tokens": 2**63}, Usage()),
        ({"prompt_tokens": True, "completion_tokens": 1.5}, Usage()),
        (None, None),
        ([], None),
    ],
    ids=repr,
)
def test_usage_is_read_as_far_as_it_makes_sense(usage: Any, read: Usage | None) -> None:
    assert read_usage(usage) == read
