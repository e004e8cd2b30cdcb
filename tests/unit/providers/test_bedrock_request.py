"""Whatever a caller may ask for, Bedrock is sent a request that botocore would take, or the caller is told why not."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.json import write
from penstock.core.ports import Call
from penstock.errors import UpstreamRefused
from penstock.providers._bedrock_request import converse_request
from penstock.schema.request import CHAT
from tests.unit.providers.test_anthropic_request import bodies
from tests.wire.amazon import check_request
from tests.wire.bedrock_requests import CLAUDE, FABLE, LLAMA, NEWER, NOVA, OLD, OSS


@given(bodies, st.sampled_from([CLAUDE, FABLE, LLAMA, NEWER, NOVA, OLD, OSS]), st.none() | st.integers(1, 5000))
def test_a_request_is_translated_or_refused(body: dict[str, Any], model: str, cap: int | None) -> None:
    before = copy.deepcopy(body)
    call = Call(CHAT, body, 1.0, "req_1", cap)
    told, refusal = _told(call, model)
    assert body == before
    if told is None:
        assert refusal
        assert (refusal.status, bool(refusal.param)) == (400, True)
        return
    write(told)
    check_request(told, model)
    assert all(one["role"] != other["role"] for one, other in pairwise(told["messages"])), "turns take turns"
    assert all(turn["content"] for turn in told["messages"])
    assert set(call.dropped) <= body.keys()
    assert not {"model", "messages"} & set(call.dropped)
    assert {name for name in ("metadata", "seed", "user") if body.get(name) is not None} <= set(call.dropped)
    _names_what_it_calls(told)


def _told(call: Call, model: str) -> tuple[dict[str, Any] | None, UpstreamRefused | None]:
    try:
        return converse_request(call, model), None
    except UpstreamRefused as refusal:
        return None, refusal


def _names_what_it_calls(told: dict[str, Any]) -> None:
    """Converse refuses a conversation with a tool that is not declared."""
    blocks = [block for turn in told["messages"] for block in turn["content"]]
    called = {block["toolUse"]["name"] for block in blocks if "toolUse" in block}
    tools = told.get("toolConfig", {}).get("tools", ())
    assert called <= {tool["toolSpec"]["name"] for tool in tools if "toolSpec" in tool}
