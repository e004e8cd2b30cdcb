"""Where the laws of providers are tried on the plug ``ollama``: a server of Ollama's own API that echoes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from penstock.schema.model import Deployment
from tests.laws.providers.speech import Speech, tell
from tests.wire import upstream
from tests.wire.upstream import Call

__all__ = ["KINDS", "serve", "tell"]

KINDS = ("ollama",)


@asynccontextmanager
async def serve(folder: Path, kind: str) -> AsyncIterator[Deployment]:
    """A deployment that answers."""
    async with upstream.serve(_answer) as engine:
        yield Deployment("first/public-1", "public-1", "first", kind, "tiny:latest", engine.url)


async def _answer(call: Call) -> None:
    if call.target == "/api/tags":
        call.answer({"models": [{"name": "tiny:latest", "modified_at": "2025-09-29T00:00:00.123456789+02:00"}]})
    elif call.target == "/api/show":
        call.answer({"capabilities": ["completion", "tools"], "model_info": {"llama.context_length": 2048}})
    elif call.target == "/api/embed":
        vectors = [[float(len(text)), 0.5, -0.25] for text in call.json["input"]]
        call.answer({"model": "tiny:latest", "embeddings": vectors, "prompt_eval_count": 4})
    else:
        await _speak(call, _heard(call.json))


def _heard(body: dict[str, Any]) -> Speech:
    messages = body.get("messages") or [{"role": "user", "content": body.get("prompt")}]
    return Speech(
        prompt=messages[-1]["content"],
        system=messages[0]["content"] if messages[0]["role"] == "system" else "",
        limit=body.get("options", {}).get("num_predict"),
        schema=body.get("format"),
        tools=[(tool["function"]["name"], tool["function"]["parameters"]) for tool in body.get("tools", ())],
    )


async def _speak(call: Call, speech: Speech) -> None:
    assert call.json["stream"] is True
    chat = call.target == "/api/chat"
    if status := speech.simulate.get("error"):
        call.answer({"error": f"a simulated failure with status {status}"}, status)
        return
    await asyncio.sleep(speech.simulate.get("ttft", 0))
    call.begin(kind="application/x-ndjson")
    for number, word in enumerate(() if speech.calls else speech.words):
        if number >= speech.simulate.get("cut_after", number + 1):
            call.close()
            return
        await asyncio.sleep(speech.pause if number else 0)
        _line(call, {"message": {"role": "assistant", "content": word}} if chat else {"response": word})
    for name, arguments in speech.calls:
        called = {"function": {"name": name, "arguments": arguments}}
        _line(call, {"message": {"role": "assistant", "content": "", "tool_calls": [called]}})
    end = {"done": True, "done_reason": "length" if speech.cut else "stop"}
    said = {"message": {"role": "assistant", "content": ""}} if chat else {"response": ""}
    _line(call, {**said, **end, "prompt_eval_count": 7, "eval_count": len(speech.words)})
    call.finish()


def _line(call: Call, document: dict[str, Any]) -> None:
    call.piece(json.dumps({"model": "tiny:latest", "done": False, **document}).encode() + b"\n")
