"""Good bodies with something in them changed at random: answered, or refused, but never a failure of ours."""

from __future__ import annotations

import copy
import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.e2e.server import chat
from tests.e2e.test_bodies import CHAT, COMPLETIONS, EMBEDDINGS

pytestmark = pytest.mark.timeout(240)
SCHEMA = {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"enum": [1, None]}}}
FULL: dict[str, dict[str, Any]] = {
    CHAT: chat(
        stream=True,
        stream_options={"include_usage": True},
        messages=[
            {"role": "system", "content": "be brief"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {"url": "x"}}],
            },
            {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": {}}]},
            {"role": "tool", "tool_call_id": "c", "content": "12"},
        ],
        tools=[{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}],
        tool_choice={"type": "function", "function": {"name": "f"}},
        parallel_tool_calls=True,
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
        temperature=0.5,
        top_p=1,
        n=2,
        stop=["x"],
        max_tokens=5,
        logprobs=True,
        top_logprobs=1,
        logit_bias={"5": 1},
        seed=1,
        user="u",
    ),
    COMPLETIONS: {
        "model": "echo",
        "prompt": ["a", "b"],
        "suffix": "s",
        "echo": True,
        "best_of": 1,
        "logprobs": 1,
        "n": 1,
    },
    EMBEDDINGS: {"model": "echo", "input": [[1, 2], [3]], "encoding_format": "base64", "dimensions": 8},
}
SIMPLE = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
ANYTHING = st.recursive(
    SIMPLE, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=8
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path to every value in a document."""
    found = [path]
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        found += places(part, (*path, key))
    return found


@st.composite
def changed(draw: st.DrawFn, body: dict[str, Any]) -> Any:
    """The body with one to three of its values replaced, removed, or joined by others."""
    document: dict[str, Any] = {"": copy.deepcopy(body)}
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(places(document)[1:]))
        holder: Any = document
        for key in way:
            holder = holder[key]
        act = draw(st.sampled_from(["replace", "remove", "add"]))
        if act == "replace":
            holder[last] = draw(ANYTHING)
        elif act == "remove" and len(way) > 0:
            del holder[last]
        elif isinstance(holder[last], dict):
            holder[last][draw(st.text())] = draw(ANYTHING)
    return document[""]


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_changed_body_is_answered_or_refused(data: st.DataObject, client: httpx.Client) -> None:
    route = data.draw(st.sampled_from(list(FULL)))
    body = data.draw(changed(FULL[route]))
    check(client.post(route, content=encode(body), headers={"content-type": "application/json"}))


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_changed_bytes_are_answered_or_refused(data: st.DataObject, client: httpx.Client) -> None:
    route = data.draw(st.sampled_from(list(FULL)))
    content = bytearray(json.dumps(FULL[route]).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        length = data.draw(st.integers(0, 4))
        content[start : start + length] = data.draw(st.binary(max_size=6))
    check(client.post(route, content=bytes(content), headers={"content-type": "application/json"}))


def encode(body: Any) -> bytes:
    """The body as Python writes it: NaN and lone surrogates included."""
    return json.dumps(body).encode()


def check(answer: httpx.Response) -> None:
    """Answered, or refused with words."""
    assert answer.status_code in (200, 400, 404), answer.text
    if answer.status_code != 200:
        error = answer.json()["error"]
        assert error["message"]
        assert error["param"] is None or isinstance(error["param"], str)
    elif "text/event-stream" in answer.headers["content-type"]:
        assert answer.content.endswith(b"data: [DONE]\n\n"), answer.text[-500:]
    else:
        assert answer.json()["object"] in ("chat.completion", "text_completion", "list")
