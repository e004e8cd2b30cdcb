"""A model that is no model: deterministic answers for demos, tests and benchmarks.

Every answer says that it is simulated.

``options`` of the provider, and the field ``simulate`` of a request's body, which goes before them:

- ``ttft``: seconds to the first token; ``tokens_per_second``: 0 is as fast as can be;
- ``tokens``: how many to say, instead of echoing;
- ``error``: an HTTP status to fail with; ``cut_after``: tokens after which the stream breaks off.

Tools are called when ``tool_choice`` demands it, with arguments made from the tool's schema.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import math
import re
import struct
import time
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from penstock.core.fold import fold
from penstock.core.json import to_json, write
from penstock.core.ports import Answer, Call
from penstock.errors import (
    InvalidRequest,
    PenstockError,
    RateLimited,
    UpstreamBusy,
    UpstreamProtocolError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from penstock.outbound import HttpClient
from penstock.providers._example import example
from penstock.providers._picture import picture
from penstock.schema.model import Deployment, ModelCard
from penstock.schema.request import CHAT, EMBEDDINGS, GENERATIVE, IMAGES, INFER

DIMENSIONS = 64
MAX_DIMENSIONS = 8192
ABLE = ("chat", "completions", "embeddings", "images", "tools")
_OPTIONS = {
    "ttft": (0, 3600),
    "tokens_per_second": (0, 1e9),
    "tokens": (1, 100_000),
    "error": (400, 599),
    "cut_after": (0, 100_000),
}
_TOKEN = re.compile(r"\s*\S+|\s+$")


def connect(deployment: Deployment, client: HttpClient) -> Simulated:
    """A connection that never leaves the process."""
    return Simulated(deployment)


class Simulated:
    """Says back what it is told."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._options: dict[str, Any] = dict(deployment.options)

    async def complete(self, call: Call) -> Answer:
        """The whole answer at once, after the time that it would take."""
        if call.endpoint in _ALONE:
            await self._fail_on_demand(self._settled(call))
            document = _ALONE[call.endpoint](call.body)
        else:
            document = await fold(self.stream(call), call.endpoint)
        return Answer(to_json(document), document)

    async def stream(self, call: Call) -> AsyncGenerator[list[bytes], None]:
        """The answer token by token."""
        call.streamed = True
        if call.endpoint not in GENERATIVE:
            raise UpstreamRefused(f"the simulated {call.endpoint} has no stream", status=400, param="stream")
        settled = self._settled(call)
        await self._fail_on_demand(settled)
        pause = 1 / settled["tokens_per_second"] if settled.get("tokens_per_second") else 0.0
        await _sleep(float(settled.get("ttft", 0)), call.deadline)
        cut = settled.get("cut_after")
        for number, chunk in enumerate(_chunks(call, settled)):
            if cut is not None and number > cut:
                raise UpstreamProtocolError("the simulated stream was cut, as asked")
            if number and pause:
                await _sleep(pause, call.deadline)
            call.payloads += 1
            yield [to_json(chunk)]

    async def probe(self, deadline: float) -> None:
        """There is nothing that could fail."""

    async def models(self, deadline: float) -> list[ModelCard]:
        """The one model."""
        return [
            ModelCard(
                "simulated/echo", self._deployment.provider, "simulated", int(time.time()), "echo", capabilities=ABLE
            )
        ]

    def _settled(self, call: Call) -> dict[str, Any]:
        write(call.body)  # refuses what could not be sent to a real engine
        asked = (call.body["input"] if call.endpoint == INFER else call.body).get("simulate", {})
        if not isinstance(asked, dict):
            raise _wrong("simulate: must be an object")
        settled = {**self._options, **asked}
        for name, value in settled.items():
            if name not in _OPTIONS:
                raise _wrong(f"simulate.{name[:100]}: is not known; there are {', '.join(_OPTIONS)}")
            low, high = _OPTIONS[name]
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                raise _wrong(f"simulate.{name}: must be a number from {low:g} to {high:g}")
        return settled

    async def _fail_on_demand(self, settled: dict[str, Any]) -> None:
        if status := int(settled.get("error", 0)):
            raise _failure(status, self._deployment.provider)


def _wrong(message: str) -> UpstreamRefused:
    return UpstreamRefused(f"{message}.", status=400, param="simulate", upstream_code=InvalidRequest.code)


def _failure(status: int, provider: str) -> PenstockError:
    message = f"a simulated failure with status {status}"
    if status == 429:
        return RateLimited(message, retry_after=1)
    if status == 503:
        return UpstreamBusy(message, provider=provider, retry_after=1)
    if status == 504:
        return UpstreamTimeout(message, provider=provider)
    if 400 <= status < 500:
        return UpstreamRefused(message, status=status, provider=provider)
    return UpstreamUnavailable(message, provider=provider)


async def _sleep(seconds: float, deadline: float) -> None:
    left = deadline - asyncio.get_running_loop().time()
    await asyncio.sleep(min(seconds, max(left, 0)))
    if seconds > left:
        raise UpstreamTimeout("the simulated answer was slower than the deadline")


def _chunks(call: Call, settled: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The chunks of a chat or text completion, the usage last."""
    body, chat = call.body, call.endpoint == CHAT
    said, prompt_tokens = _said(body)
    tokens = _TOKEN.findall(said) or [said]
    if "tokens" in settled:
        tokens = [tokens[number % len(tokens)] for number in range(int(settled["tokens"]))]
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or call.cap
    finish = "stop"
    if isinstance(limit, int) and limit < len(tokens):
        tokens, finish = tokens[:limit], "length"
    top = {
        "id": f"{'chatcmpl' if chat else 'cmpl'}-{call.request_id}",
        "object": "chat.completion.chunk" if chat else "text_completion",
        "created": int(time.time()),
        "model": body["model"],
        "system_fingerprint": "simulated",
    }
    count = len(tokens)
    for index in range(body.get("n") or 1):
        if chat and (call_delta := _tool_calls(body)):
            yield {**top, "choices": [_choice(index, {"role": "assistant", "content": None, **call_delta}, None)]}
            finish = "tool_calls"
        elif chat:
            yield {**top, "choices": [_choice(index, {"role": "assistant", "content": ""}, None)]}
            for token in tokens:
                yield {**top, "choices": [_choice(index, {"content": token}, None, _logprob(body, token))]}
        else:
            for token in tokens:
                yield {**top, "choices": [{"index": index, "text": token, "logprobs": None, "finish_reason": None}]}
        end = (
            _choice(index, {}, finish)
            if chat
            else {"index": index, "text": "", "logprobs": None, "finish_reason": finish}
        )
        yield {**top, "choices": [end]}
    completion_tokens = count * (body.get("n") or 1)
    total = prompt_tokens + completion_tokens
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total}
    yield {**top, "choices": [], "usage": usage}


def _choice(index: int, delta: dict[str, Any], finish: str | None, logprobs: Any = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}


def _logprob(body: dict[str, Any], token: str) -> dict[str, Any] | None:
    if not body.get("logprobs"):
        return None
    entry = {"token": token, "logprob": 0.0, "bytes": list(token.encode())}
    top = [entry] if body.get("top_logprobs") else []
    return {"content": [{**entry, "top_logprobs": top}]}


def _said(body: dict[str, Any]) -> tuple[str, int]:
    """What the model says, and how many tokens it was told."""
    if "messages" in body:
        texts = [_text(message.get("content")) for message in body["messages"]]
        last = next(
            (t for m, t in zip(reversed(body["messages"]), reversed(texts), strict=True) if m["role"] == "user"), ""
        )
    else:
        prompt = body.get("prompt", "")
        last = prompt if isinstance(prompt, str) else " ".join(map(str, prompt))
        texts = [last]
    prompt_tokens = sum(len(_TOKEN.findall(text)) for text in texts)
    form = body.get("response_format") or {}
    wanted = form.get("type")
    if wanted == "json_schema":
        return to_json(example(form["json_schema"].get("schema") or {})).decode(), prompt_tokens
    if wanted == "json_object":
        return to_json({"simulated": True, "echo": last}).decode(), prompt_tokens
    return f"[simulated] {last}", prompt_tokens


def _text(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(part["text"] for part in content if isinstance(part.get("text"), str))
    return content or ""


def _tool_calls(body: dict[str, Any]) -> dict[str, Any] | None:
    """The calls that ``tool_choice`` demands: one, or with ``parallel_tool_calls`` one of each tool."""
    choice, tools = body.get("tool_choice"), body.get("tools") or []
    functions = [tool["function"] for tool in tools if tool.get("function")]
    if isinstance(choice, dict) and choice.get("function"):
        functions = [f for f in functions if f["name"] == choice["function"]["name"]]
    elif choice == "required":
        functions = functions if body.get("parallel_tool_calls") else functions[:1]
    else:
        return None
    calls = []
    for index, function in enumerate(functions):
        arguments = to_json(example(function.get("parameters") or {})).decode()
        called = {"name": function["name"], "arguments": arguments}
        calls.append({"index": index, "id": f"call_simulated_{index}", "type": "function", "function": called})
    return {"tool_calls": calls} if calls else None


def _embeddings(body: dict[str, Any]) -> dict[str, Any]:
    inputs = body["input"]
    if isinstance(inputs, str) or (inputs and isinstance(inputs[0], int)):
        inputs = [inputs]
    size = body.get("dimensions") or DIMENSIONS
    if size > MAX_DIMENSIONS:
        raise UpstreamRefused(f"a vector has at most {MAX_DIMENSIONS} dimensions", status=400, param="dimensions")
    data = []
    for number, text in enumerate(inputs):
        vector: Any = _vector(to_json(text), size)
        if body.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode()
        data.append({"object": "embedding", "index": number, "embedding": vector})
    tokens = sum(len(text) if isinstance(text, list) else len(_TOKEN.findall(text)) for text in inputs)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": body["model"], "usage": usage}


def _images(body: dict[str, Any]) -> dict[str, Any]:
    image = picture(to_json(body["prompt"]))
    named = {"url": f"data:image/png;base64,{image}"} if body.get("response_format") == "url" else {"b64_json": image}
    return {"created": int(time.time()), "data": [named for _ in range(body.get("n") or 1)]}


def _own(body: dict[str, Any]) -> dict[str, Any]:
    return {"model": body["model"], "task": "custom", "output": {"simulated": True, "echo": body["input"]}}


_ALONE = {EMBEDDINGS: _embeddings, IMAGES: _images, INFER: _own}
"""The endpoints whose answer is no text."""


def _vector(text: bytes, size: int) -> list[float]:
    """A unit vector that depends on the text alone."""
    digest = hashlib.shake_256(text).digest(size * 2)
    raw = [value / 32768 for value in struct.unpack(f"<{size}h", digest)]
    length = math.sqrt(sum(value * value for value in raw)) or 1.0
    return [value / length for value in raw]
