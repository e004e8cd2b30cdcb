"""Where the laws of providers are tried on the plug ``anthropic``: a server of the Messages API that echoes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from penstock.schema.model import Deployment
from penstock.schema.request import COMPLETIONS, EMBEDDINGS
from penstock.schema.secret import Secret
from tests.laws.providers.speech import Speech, tell
from tests.wire import upstream
from tests.wire.upstream import Call

__all__ = ["KINDS", "LACKS", "serve", "tell"]

KINDS = ("anthropic",)
LACKS = (COMPLETIONS, EMBEDDINGS)


@asynccontextmanager
async def serve(folder: Path, kind: str) -> AsyncIterator[Deployment]:
    """A deployment that answers."""
    async with upstream.serve(_answer) as engine:
        yield Deployment("first/public-1", "public-1", "first", kind, "claude-sonnet-4-5", engine.url, Secret("key"))


async def _answer(call: Call) -> None:
    assert call.headers["anthropic-version"]
    assert call.headers["x-api-key"] == "key"
    if call.method == "GET":
        model = {"type": "model", "id": "claude-sonnet-4-5", "created_at": "2025-09-29T00:00:00Z"}
        call.answer({"data": [model], "has_more": False})
        return
    speech = _heard(call.json)
    if status := speech.simulate.get("error"):
        error = {"type": "whatever_error", "message": f"a simulated failure with status {status}"}
        call.answer({"type": "error", "error": error}, status)
        return
    await asyncio.sleep(speech.simulate.get("ttft", 0))
    if call.json.get("stream"):
        await _stream(call, speech)
    elif "cut_after" in speech.simulate:
        call.begin(kind="application/json")
        call.piece(b'{"type":"mess')
        call.close()
    else:
        await asyncio.sleep(speech.pause * len(speech.words))
        call.answer(_message(speech, _blocks(speech)))


def _heard(body: dict[str, Any]) -> Speech:
    last = [block["text"] for block in body["messages"][-1]["content"] if block["type"] == "text"]
    forced = body.get("tool_choice", {}).get("type") == "any"
    form = body.get("output_config", {}).get("format")
    return Speech(
        prompt=" ".join(last),
        system="".join(block["text"] for block in body.get("system", ())),
        limit=body["max_tokens"],
        schema=form["schema"] if form else None,
        tools=[(tool["name"], tool["input_schema"]) for tool in body.get("tools", ()) if forced],
    )


def _blocks(speech: Speech) -> list[dict[str, Any]]:
    if speech.calls:
        calls = enumerate(speech.calls)
        return [{"type": "tool_use", "id": f"toolu_{n}", "name": name, "input": value} for n, (name, value) in calls]
    return [{"type": "text", "text": "".join(speech.words)}]


def _message(speech: Speech, blocks: list[dict[str, Any]]) -> dict[str, Any]:
    reason = "tool_use" if speech.calls else "max_tokens" if speech.cut else "end_turn"
    usage = {"input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": len(speech.words)}
    top = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5"}
    return {**top, "content": blocks, "stop_reason": reason, "stop_sequence": None, "usage": usage}


async def _stream(call: Call, speech: Speech) -> None:
    call.begin()
    whole = _message(speech, [])
    call.event({"type": "message_start", "message": {**whole, "stop_reason": None}})
    call.event({"type": "ping"})
    for index, block in enumerate(_blocks(speech)):
        empty = {"text": ""} if block["type"] == "text" else {"input": {}}
        call.event({"type": "content_block_start", "index": index, "content_block": {**block, **empty}})
        for number, delta in enumerate(_deltas(block, speech)):
            if number >= speech.simulate.get("cut_after", number + 1):
                call.close()
                return
            await asyncio.sleep(speech.pause if number else 0)
            call.event({"type": "content_block_delta", "index": index, "delta": delta})
        call.event({"type": "content_block_stop", "index": index})
    end = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    call.event({"type": "message_delta", "delta": end, "usage": {"output_tokens": len(speech.words)}})
    call.event({"type": "message_stop"})
    call.finish()


def _deltas(block: dict[str, Any], speech: Speech) -> list[dict[str, Any]]:
    if block["type"] == "text":
        return [{"type": "text_delta", "text": word} for word in speech.words]
    whole = json.dumps(block["input"], separators=(",", ":"))
    parts = ["", *(whole[at : at + 4] for at in range(0, len(whole), 4))]
    return [{"type": "input_json_delta", "partial_json": part} for part in parts]
