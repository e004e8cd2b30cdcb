"""Whatever a caller may ask for, Anthropic is sent a request of its own wire, or the caller is told why not."""

from __future__ import annotations

import copy
import string
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.json import write
from penstock.core.ports import Call
from penstock.errors import UpstreamRefused
from penstock.providers._anthropic_request import messages_request
from penstock.providers._claude import traits
from penstock.schema.request import CHAT
from penstock.schema.wire import ChatBody

MODELS = ["claude-3-5-haiku-20241022", "claude-sonnet-4-5", "claude-opus-4-6", "claude-opus-5", "claude-fable-5-1", "m"]
BLOCKS = {"text", "image", "document", "thinking", "redacted_thinking", "tool_use", "tool_result"}

anything = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(string.printable, max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
names = st.text(string.ascii_letters, min_size=1, max_size=6)
parts = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": st.text(max_size=6)}),
    st.fixed_dictionaries({"type": st.just("image_url"), "image_url": st.just({"url": "http://x/a.png"}) | anything}),
    st.fixed_dictionaries({"type": names, "text": anything}),
)
calls = st.fixed_dictionaries(
    {"id": names | anything, "function": st.fixed_dictionaries({"name": names, "arguments": st.just("{}") | anything})}
)
messages = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "developer", "user", "assistant", "tool"]),
        "content": st.text(max_size=6) | st.lists(parts, max_size=3) | st.none(),
    },
    optional={"tool_calls": st.lists(calls, max_size=2), "tool_call_id": names, "thinking_blocks": anything},
)
tools = st.fixed_dictionaries(
    {"type": st.just("function"), "function": st.fixed_dictionaries({"name": names})},
)
bodies = st.fixed_dictionaries(
    {"model": st.just("m"), "messages": st.lists(messages, min_size=1, max_size=5)},
    optional={
        "tools": st.lists(tools, max_size=2),
        "tool_choice": st.sampled_from(["auto", "none", "required", "sometimes", {"type": "function"}]),
        "parallel_tool_calls": st.booleans(),
        "max_tokens": st.integers(1, 9000),
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0, 1),
        "top_k": anything,
        "stop": st.text(max_size=3) | st.lists(st.text(max_size=3), max_size=3),
        "reasoning_effort": st.sampled_from(["none", "minimal", "low", "high", "xhigh", "max", "huge"]) | anything,
        "thinking": anything,
        "service_tier": anything,
        "user": names,
        "response_format": st.fixed_dictionaries({"type": st.sampled_from(["text", "json_object", "wat"])}),
        "metadata": anything,
        "seed": st.integers(),
    },
)


@given(bodies, st.sampled_from(MODELS), st.none() | st.integers(1, 5000))
def test_a_request_is_translated_or_refused(body: dict[str, Any], model: str, cap: int | None) -> None:
    ChatBody.model_validate(body)
    before = copy.deepcopy(body)
    call = Call(CHAT, body, 1.0, "req_1", cap)
    told, refusal = _told(call, model)
    assert body == before
    if told is None:
        assert refusal
        assert (refusal.status, bool(refusal.param)) == (400, True)
        return
    write(told)
    _is_of_anthropics_wire(told, model)
    assert set(call.dropped) <= body.keys()
    assert not {"model", "messages", "user"} & set(call.dropped)
    assert {name for name in ("metadata", "seed") if body.get(name) is not None} <= set(call.dropped)


def _told(call: Call, model: str) -> tuple[dict[str, Any] | None, UpstreamRefused | None]:
    try:
        return messages_request(call, model), None
    except UpstreamRefused as refusal:
        return None, refusal


def _is_of_anthropics_wire(told: dict[str, Any], model: str) -> None:
    claude = traits(model)
    roles = [turn["role"] for turn in told["messages"]]
    assert all(one != other for one, other in pairwise(roles)), "turns take turns"
    assert set(roles) <= {"user", "assistant"}
    blocks = [block for turn in told["messages"] for block in turn["content"]] + told.get("system", [])
    assert all(turn["content"] for turn in told["messages"])
    assert {block["type"] for block in blocks} <= BLOCKS
    assert all(block["text"].strip() for block in blocks if block["type"] == "text")
    assert told["max_tokens"] >= 1
    assert claude.samples or not {"temperature", "top_p", "top_k"} & told.keys()
    thinking = told.get("thinking", {})
    if thinking.get("type") == "enabled" and "budget_tokens" in thinking and claude.thinks == "budget":
        assert "temperature" not in told
        assert 1024 <= thinking["budget_tokens"] < told["max_tokens"]
