"""What Anthropic once answered, replayed: through the gateway it means the same as to Anthropic's own client."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from penstock.core.fold import fold
from penstock.providers._anthropic_answer import Events, answer
from penstock.providers._anthropic_turns import conversation
from penstock.schema.request import CHAT
from tests.wire import gateway as gateways
from tests.wire.gateway import KEY, PATIENCE
from tests.wire.upstream import Call, Upstream

RECORDED = Path(__file__).parents[3] / "shared" / "traffic" / "recorded.jsonl.gz"
OWN = ("type", "thinking", "signature", "data", "id", "name", "input")
HELLO = [{"role": "user", "content": "Hello"}]

pytestmark = pytest.mark.skipif(not RECORDED.exists(), reason=f"recorded provider traffic is not there: {RECORDED}")

Row = dict[str, Any]


def rows(*, stream: bool) -> list[Row]:
    """The recorded messages of Anthropic."""
    with gzip.open(RECORDED, "rt", encoding="utf-8") as lines:
        found = [json.loads(line) for line in lines]
    chosen = [row for row in found if row["provider"] == "anthropic" and bool(row["stream"]) is stream]
    assert chosen
    return chosen


def named(row: Row) -> str:
    return f"{row['source']} {row['i']}"


async def vendors(row: Row) -> Row:
    """The message as the vendor's own client reads it from the recorded bytes."""
    body = base64.b64decode(row["b64"])

    def replay(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(row["status"], headers={"content-type": row["ctype"]}, content=body)

    http = httpx2.AsyncClient(transport=httpx2.MockTransport(replay))
    client = anthropic.AsyncAnthropic(api_key=KEY, base_url="http://recorded", max_retries=0, http_client=http)
    asked: Row = {"model": "claude-opus-5-5", "max_tokens": 9, "messages": HELLO}
    if not row["stream"]:
        return (await client.beta.messages.create(**asked)).model_dump(mode="json")
    async with client.beta.messages.stream(**asked) as stream:
        return (await stream.get_final_message()).model_dump(mode="json")


async def ours(folder: Path, upstream: Upstream, chosen: list[Row]) -> list[ChatCompletion]:
    """The same messages as OpenAI's client reads them from the gateway, streamed as they were recorded."""
    left = iter(chosen)

    async def script(call: Call) -> None:
        row = next(left)
        assert bool(call.json.get("stream")) is bool(row["stream"])
        call.answer(base64.b64decode(row["b64"]), row["status"], row["ctype"])

    upstream.script = script
    provider = gateways.provider(upstream.url, type="anthropic")
    async with gateways.serve(folder, provider) as gateway, httpx.AsyncClient(timeout=PATIENCE, verify=False) as http:
        client = openai.AsyncOpenAI(api_key=KEY, base_url=f"{gateway.url}/v1", max_retries=0, http_client=http)
        return [await (streamed(client) if row["stream"] else whole(client)) for row in chosen]


async def whole(client: openai.AsyncOpenAI) -> ChatCompletion:
    found: ChatCompletion = await client.chat.completions.create(model=gateways.MODEL, messages=HELLO)  # type: ignore[call-overload]
    return found


async def streamed(client: openai.AsyncOpenAI) -> ChatCompletion:
    """A stream, put together by the client."""
    state: ChatCompletionStreamState[Any] = ChatCompletionStreamState()
    usage = None
    options = {"include_usage": True}
    chunks = await client.chat.completions.create(  # type: ignore[call-overload]
        model=gateways.MODEL, messages=HELLO, stream=True, stream_options=options
    )
    async for chunk in chunks:
        assert isinstance(chunk, ChatCompletionChunk)
        state.handle_chunk(chunk)
        usage = chunk.usage or usage
    return state.get_final_completion().model_copy(update={"usage": usage})


def said_by_vendor(message: Row) -> Row:
    """What a reader of Anthropic's message learns."""
    blocks, usage = message["content"], message["usage"]
    read, written = usage["cache_read_input_tokens"] or 0, usage["cache_creation_input_tokens"] or 0
    ends = {"end_turn": "stop", "tool_use": "tool_calls"}
    return {
        "id": message["id"],
        "text": "".join(block["text"] for block in blocks if block["type"] == "text"),
        "thought": "".join(block["thinking"] for block in blocks if block["type"] == "thinking"),
        "signed": [block.get("signature") or block.get("data") for block in blocks if "thinking" in block["type"]],
        "calls": [(block["id"], block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"],
        "end": ends[message["stop_reason"]],
        "tokens": (usage["input_tokens"] + read + written, read, usage["output_tokens"]),
    }


def said_by_us(completion: ChatCompletion) -> Row:
    """What a reader of the chat completion learns."""
    (choice,), usage = completion.choices, completion.usage
    message, more = choice.message, choice.message.model_extra or {}
    assert usage
    assert usage.prompt_tokens_details
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    return {
        "id": completion.id,
        "text": message.content or "",
        "thought": more.get("reasoning_content", ""),
        "signed": [block.get("signature") or block.get("data") for block in more.get("thinking_blocks", ())],
        "calls": [
            (call.id, call.function.name, json.loads(call.function.arguments))
            for call in message.tool_calls or ()
            if call.type == "function"
        ],
        "end": choice.finish_reason,
        "tokens": (usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens, usage.completion_tokens),
    }


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
async def test_a_recorded_answer_means_the_same(tmp_path: Path, upstream: Upstream, stream: bool) -> None:
    chosen = rows(stream=stream)
    for row, completion in zip(chosen, await ours(tmp_path, upstream, chosen), strict=True):
        assert said_by_us(completion) == said_by_vendor(await vendors(row)), named(row)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
async def test_a_message_and_its_events_are_the_same_answer(stream: bool) -> None:
    for row in rows(stream=stream):
        message = await vendors(row)
        plain, folded = answer(message), await fold(chunks(message), CHAT)
        for document in (plain, folded):
            document.pop("created")
        assert folded == plain, named(row)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
async def test_an_answer_that_is_sent_back_is_told_as_it_was_said(
    tmp_path: Path, upstream: Upstream, stream: bool
) -> None:
    chosen = rows(stream=stream)
    for row, completion in zip(chosen, await ours(tmp_path, upstream, chosen), strict=True):
        sent_back = {"role": "assistant", **completion.choices[0].message.model_dump(exclude_none=True)}
        _, turns = conversation([*HELLO, sent_back, {"role": "user", "content": "Go on."}])
        assert own_blocks(turns[1]["content"]) == own_blocks((await vendors(row))["content"]), named(row)


def own_blocks(blocks: list[Row]) -> list[Row]:
    """What the model itself thought, said and asked for, its words put together after its thoughts."""
    text = "".join(block["text"] for block in blocks if block["type"] == "text").rstrip()
    kept = [
        {
            name: block[name]
            for name in ("type", "thinking", "signature", "data", "id", "name", "input")
            if name in block
        }
        for block in blocks
        if block["type"] in ("thinking", "redacted_thinking", "tool_use")
    ]
    return [*kept, {"type": "text", "text": text}]


async def chunks(message: Row) -> AsyncGenerator[list[bytes], None]:
    """The chunks of the events in which Anthropic would have streamed a message."""
    events = Events()
    for event in told(message):
        if found := events.read(event):
            yield found
    assert events.done


def told(message: Row) -> list[Row]:
    start = {**message, "content": [], "stop_reason": None, "usage": {**message["usage"], "output_tokens": 1}}
    events: list[Row] = [{"type": "message_start", "message": start}]
    for index, block in enumerate(message["content"]):
        empty = {"text": ""} if block["type"] == "text" else {"thinking": "", "signature": ""}
        empty = {"input": {}} if block["type"] == "tool_use" else empty
        opened = {name: empty.get(name, value) for name, value in block.items()}
        events.append({"type": "content_block_start", "index": index, "content_block": opened})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas(block)]
        events.append({"type": "content_block_stop", "index": index})
    end = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    return [*events, {"type": "message_delta", "delta": end, "usage": message["usage"]}, {"type": "message_stop"}]


def deltas(block: Row) -> list[Row]:
    if block["type"] == "text":
        return [{"type": "text_delta", "text": part} for part in halves(block["text"])]
    if block["type"] == "thinking":
        thoughts = [{"type": "thinking_delta", "thinking": part} for part in halves(block["thinking"])]
        return [*thoughts, {"type": "signature_delta", "signature": block["signature"]}]
    if block["type"] == "tool_use":
        written = json.dumps(block["input"], separators=(",", ":"), ensure_ascii=False)
        return [{"type": "input_json_delta", "partial_json": part} for part in ("", *halves(written))]
    return []


def halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]
