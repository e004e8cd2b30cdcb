"""Where the laws of providers are tried on the plug ``bedrock``: a server of Converse that echoes to who signs well."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from penstock.schema.model import Deployment
from penstock.schema.request import COMPLETIONS, EMBEDDINGS
from tests.laws.providers.speech import Speech, tell
from tests.wire import upstream
from tests.wire.amazon import ENVIRONMENT, FRAMES, REGION, check_signature, event
from tests.wire.upstream import Call

__all__ = ["KINDS", "LACKS", "serve", "tell"]

KINDS = ("bedrock",)
LACKS = (COMPLETIONS, EMBEDDINGS)
MODEL = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"


@asynccontextmanager
async def serve(folder: Path, kind: str) -> AsyncIterator[Deployment]:
    """A deployment that answers."""
    async with upstream.serve(_answer) as engine:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in ENVIRONMENT.items():
                patch.setenv(name, value)
            url, options = engine.url.removesuffix("/v1"), (("region", REGION),)
            yield Deployment("first/public-1", "public-1", "first", kind, MODEL, url, options=options)


async def _answer(call: Call) -> None:
    check_signature(call)
    if call.method == "GET":
        _list(call)
        return
    speech = _heard(call.json)
    if status := speech.simulate.get("error"):
        call.answer({"message": f"a simulated failure with status {status}"}, status)
        return
    await asyncio.sleep(speech.simulate.get("ttft", 0))
    if call.target.endswith("/converse-stream"):
        await _stream(call, speech)
    elif "cut_after" in speech.simulate:
        call.begin(kind="application/json")
        call.piece(b'{"output":{"mess')
        call.close()
    else:
        await asyncio.sleep(speech.pause * len(speech.words))
        message = {"role": "assistant", "content": _blocks(speech)}
        call.answer({"output": {"message": message}, "stopReason": _reason(speech), "usage": _usage(speech)})


def _list(call: Call) -> None:
    if call.target.startswith("/foundation-models"):
        base = {"modelId": MODEL.removeprefix("eu."), "inferenceTypesSupported": ["INFERENCE_PROFILE"]}
        call.answer({"modelSummaries": [base]})
    else:
        profile = {"inferenceProfileId": MODEL, "createdAt": "2025-09-29T00:00:00Z"}
        call.answer({"inferenceProfileSummaries": [profile]})


def _heard(body: dict[str, Any]) -> Speech:
    last = [block["text"] for block in body["messages"][-1]["content"] if "text" in block]
    forced = "any" in body.get("toolConfig", {}).get("toolChoice", {})
    form = body.get("outputConfig", {}).get("textFormat")
    specs = [tool["toolSpec"] for tool in body.get("toolConfig", {}).get("tools", ()) if forced]
    return Speech(
        prompt=" ".join(last),
        system="".join(block["text"] for block in body.get("system", ())),
        limit=body.get("inferenceConfig", {}).get("maxTokens"),
        schema=json.loads(form["structure"]["jsonSchema"]["schema"]) if form else None,
        tools=[(spec["name"], spec["inputSchema"]["json"]) for spec in specs],
    )


def _blocks(speech: Speech) -> list[dict[str, Any]]:
    if not speech.calls:
        return [{"text": "".join(speech.words)}]
    calls = enumerate(speech.calls)
    return [{"toolUse": {"toolUseId": f"tooluse_{n}", "name": name, "input": value}} for n, (name, value) in calls]


def _reason(speech: Speech) -> str:
    return "tool_use" if speech.calls else "max_tokens" if speech.cut else "end_turn"


def _usage(speech: Speech) -> dict[str, int]:
    said = len(speech.words)
    return {"inputTokens": 3, "cacheReadInputTokens": 4, "outputTokens": said, "totalTokens": said + 7}


async def _stream(call: Call, speech: Speech) -> None:
    call.begin(kind=FRAMES)
    call.piece(event("messageStart", {"role": "assistant"}))
    for index, block in enumerate(_blocks(speech)):
        if "toolUse" in block:
            start = {name: block["toolUse"][name] for name in ("toolUseId", "name")}
            call.piece(event("contentBlockStart", {"start": {"toolUse": start}, "contentBlockIndex": index}))
        for number, delta in enumerate(_deltas(block, speech)):
            if number >= speech.simulate.get("cut_after", number + 1):
                call.close()
                return
            await asyncio.sleep(speech.pause if number else 0)
            call.piece(event("contentBlockDelta", {"delta": delta, "contentBlockIndex": index}))
        call.piece(event("contentBlockStop", {"contentBlockIndex": index}))
    call.piece(event("messageStop", {"stopReason": _reason(speech)}))
    call.piece(event("metadata", {"usage": _usage(speech), "metrics": {"latencyMs": 1}}))
    call.finish()


def _deltas(block: dict[str, Any], speech: Speech) -> Iterator[dict[str, Any]]:
    if "text" in block:
        yield from ({"text": word} for word in speech.words)
        return
    whole = json.dumps(block["toolUse"]["input"], separators=(",", ":"))
    yield from ({"toolUse": {"input": whole[at : at + 4]}} for at in range(0, len(whole), 4))
