"""The bytes that the ``anthropic`` provider puts on the wire for what callers say in OpenAI's words."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.wire import gateway as gateways
from tests.wire.anthropic_requests import BOTH, CALLS, HELLO, REQUESTS, SONNET, Body
from tests.wire.gateway import MODEL, Gateway, Reply
from tests.wire.upstream import Upstream, answering

SECRET = "sk-ant-secret"
ANSWER = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": SONNET,
    "content": [{"type": "text", "text": "Hi!"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 5, "output_tokens": 2},
}


def provider(upstream: Upstream, model: str = SONNET, **fields: Any) -> Body:
    """A row of configuration for a model of Anthropic's."""
    models = [{"name": MODEL, "upstream": model}]
    return gateways.provider(upstream.url, type="anthropic", **fields) | {"models": models}


async def asked(folder: Path, upstream: Upstream, model: str, body: Body, **more: Any) -> tuple[Reply, Body]:
    """What a caller got, and the body that went upstream for it."""
    upstream.script = answering(ANSWER)
    async with gateways.serve(folder, provider(upstream, model), **more) as gateway:
        reply = await gateway.plain(**body)
    return reply, upstream.calls[-1].json if upstream.calls else {}


async def test_the_bytes_of_a_plain_chat(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script = answering(ANSWER)
    row = provider(upstream, custom_headers={"x-team": "blue"})
    async with gateways.serve(tmp_path, row, credentials={"ANTHROPIC_API_KEY": SECRET}) as gateway:
        assert (await gateway.plain(temperature=0.5)).status == 200
    call = upstream.calls[0]
    head = re.sub(rb"req_[0-9a-f]{24}", b"REQUEST-ID", re.sub(rb"127\.0\.0\.1:\d+", b"UPSTREAM", call.head))
    assert head.decode().split("\r\n") == [
        "POST /v1/messages HTTP/1.1",
        "host: UPSTREAM",
        "content-type: application/json",
        "accept-encoding: identity",
        "anthropic-version: 2023-06-01",
        "x-api-key: sk-ant-secret",
        "x-team: blue",
        "x-request-id: REQUEST-ID",
        "content-length: 138",
    ]
    assert call.body == (
        b'{"model":"claude-sonnet-4-5","max_tokens":64000,"messages":[{"role":"user","content":'
        b'[{"type":"text","text":"Hello"}]}],"temperature":0.5}'
    )


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/"])
async def test_an_address_may_end_in_v1_or_not(tmp_path: Path, upstream: Upstream, end: str) -> None:
    upstream.script = answering(ANSWER)
    row = provider(upstream) | {"base_url": upstream.url.removesuffix("/v1") + end}
    async with gateways.serve(tmp_path, row) as gateway:
        assert (await gateway.plain()).status == 200
    assert upstream.calls[0].target == "/v1/messages"
    assert "x-api-key" not in upstream.calls[0].headers


async def test_a_custom_header_stands_in_the_place_of_the_usual_one(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script = answering(ANSWER)
    headers = {"Anthropic-Version": "2026-10-21", "anthropic-beta": "context-1m-2025-08-07"}
    async with gateways.serve(tmp_path, provider(upstream, custom_headers=headers)) as gateway:
        assert (await gateway.plain()).status == 200
    assert upstream.calls[0].headers["anthropic-version"] == "2026-10-21"
    assert upstream.calls[0].headers["anthropic-beta"] == "context-1m-2025-08-07"
    assert upstream.calls[0].head.lower().count(b"anthropic-version") == 1


@pytest.mark.parametrize("case", REQUESTS)
async def test_what_is_said_in_openais_words_is_told_in_anthropics(
    tmp_path: Path, upstream: Upstream, case: str
) -> None:
    model, body, told, dropped = REQUESTS[case]
    reply, sent = await asked(tmp_path, upstream, model, body)
    assert reply.status == 200, reply.body
    assert sent == {"model": model, "max_tokens": 64_000, "messages": [HELLO], **told}
    assert reply.headers.get("x-penstock-dropped", "") == dropped


async def test_thoughts_that_were_not_sent_back_let_the_model_go_on_without(tmp_path: Path, upstream: Upstream) -> None:
    said = {"role": "assistant", "content": None, "tool_calls": CALLS[1:]}
    result = {"role": "tool", "tool_call_id": "call_2", "content": "noon"}
    turns = [{"role": "user", "content": "Hello"}, said, result]
    reply, sent = await asked(tmp_path, upstream, SONNET, {"messages": turns, "reasoning_effort": "low", **BOTH})
    assert "thinking" not in sent
    assert reply.headers["x-penstock-dropped"] == "reasoning_effort"
    kept = {**said, "thinking_blocks": [{"type": "thinking", "thinking": "", "signature": "c2ln"}]}
    turns = [{"role": "user", "content": "Hello"}, kept, result]
    reply, sent = await asked(tmp_path, upstream, SONNET, {"messages": turns, "reasoning_effort": "low", **BOTH})
    assert sent["thinking"] == {"type": "enabled", "budget_tokens": 4096}
    assert sent["messages"][1]["content"][0] == {"type": "thinking", "thinking": "", "signature": "c2ln"}


async def test_the_houses_bound_holds_where_the_caller_names_none(tmp_path: Path, upstream: Upstream) -> None:
    counted = {"key": {"tokens_per_minute": 100_000}, "max_tokens": 3000}
    _, sent = await asked(tmp_path, upstream, SONNET, {}, limits=counted)
    assert sent["max_tokens"] == 3000


REFUSED: dict[str, tuple[Body, str]] = {
    "sound": ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages.0.content.0"),
    "an image that is no address": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a.png"}}]}]},
        "messages.0.content.0",
    ),
    "arguments that are no object": (
        {
            "messages": [
                {"role": "user", "content": "x"},
                {"role": "assistant", "tool_calls": [{**CALLS[0], "function": {"name": "f", "arguments": "[1"}}]},
            ]
        },
        "messages.1.tool_calls.0",
    ),
    "a result of no call": ({"messages": [{"role": "tool", "content": "4"}]}, "messages.0.tool_call_id"),
    "a role of old": ({"messages": [{"role": "function", "name": "f", "content": "4"}]}, "messages.0.role"),
    "a custom tool": ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools.0"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_cannot_be_said_to_claude_is_refused_by_its_name(
    tmp_path: Path, upstream: Upstream, case: str
) -> None:
    body, param = REFUSED[case]
    reply, sent = await asked(tmp_path, upstream, SONNET, body)
    assert reply.status == 400
    assert reply.error["param"] == param
    assert reply.error["code"] == "invalid_request"
    assert not sent


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/embeddings"])
async def test_endpoints_that_anthropic_does_not_have(tmp_path: Path, upstream: Upstream, path: str) -> None:
    async with gateways.serve(tmp_path, provider(upstream)) as gateway:
        reply = await gateway.plain(path, prompt="Once", input="x")
    assert (reply.status, reply.error["param"]) == (400, "model")
    assert "chat completions" in reply.error["message"]
    assert not upstream.calls


async def test_models_are_found(tmp_path: Path, upstream: Upstream) -> None:
    entry = {"type": "model", "display_name": "Claude", "created_at": "2025-09-29T00:00:00Z", "max_input_tokens": 9}
    able = {"image_input": {"supported": True}, "thinking": {"supported": False}, "effort": None}
    sonnet = {**entry, "id": SONNET, "max_tokens": 7, "capabilities": able}
    listed = [sonnet, {**entry, "id": "claude-1.3", "lifecycle": "retired"}]
    upstream.script = answering({"data": listed, "has_more": False})
    row = provider(upstream) | {"models": []}
    async with gateways.serve(tmp_path, row, credentials={"ANTHROPIC_API_KEY": SECRET}) as gateway:
        found = (await models(gateway))["data"]
    assert [(model["id"], model["created"]) for model in found] == [(SONNET, 1759104000)]
    assert (found[0]["context_window"], found[0]["max_tokens"]) == (9, 7)
    assert found[0]["capabilities"] == ["chat", "tools", "vision"]
    assert upstream.calls[0].target == "/v1/models?limit=1000"
    assert upstream.calls[0].headers["x-api-key"] == SECRET


async def models(gateway: Gateway) -> Body:
    """What the gateway lists."""
    found: Body = json.loads((await gateway.client.get("/v1/models")).content)
    return found
