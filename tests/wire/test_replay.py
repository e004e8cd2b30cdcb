"""What real providers once answered, replayed: through the gateway it means the same to the official client."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.wire import gateway as gateways
from tests.wire.gateway import KEY, PATIENCE
from tests.wire.upstream import Call, Upstream

RECORDED = Path(__file__).parents[3] / "shared" / "traffic" / "recorded.jsonl.gz"

pytestmark = pytest.mark.skipif(not RECORDED.exists(), reason=f"recorded provider traffic is not there: {RECORDED}")

Row = dict[str, Any]


def rows(*, stream: bool) -> list[Row]:
    """The recorded chat completions of OpenAI."""
    with gzip.open(RECORDED, "rt", encoding="utf-8") as lines:
        found = [json.loads(line) for line in lines]
    chosen = [row for row in found if row["provider"] == "openai" and "messages" in row["request"]]
    return [row for row in chosen if bool(row["stream"]) is stream]


def named(row: Row) -> str:
    return f"{row['source']} {row['i']}"


def recorded(row: Row) -> openai.AsyncOpenAI:
    """The official client, reading the recorded bytes."""
    body = base64.b64decode(row["b64"])

    def replay(_: httpx.Request) -> httpx.Response:
        return httpx.Response(row["status"], headers={"content-type": row["ctype"]}, content=body)

    client = httpx.AsyncClient(transport=httpx.MockTransport(replay), verify=False)
    return openai.AsyncOpenAI(api_key=KEY, base_url="http://recorded/v1", max_retries=0, http_client=client)


@asynccontextmanager
async def replayed(
    folder: Path, upstream: Upstream, rows: list[Row], **fields: Any
) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official client of a gateway whose provider replays a row for each request."""
    left = iter(rows)

    async def script(call: Call) -> None:
        row = next(left)
        call.answer(base64.b64decode(row["b64"]), row["status"], row["ctype"])

    upstream.script = script
    models = sorted({row["request"]["model"] for row in rows})
    provider = gateways.provider(upstream.url, **fields) | {"models": models}
    async with gateways.serve(folder, provider) as gateway, httpx.AsyncClient(timeout=PATIENCE, verify=False) as client:
        yield openai.AsyncOpenAI(api_key=KEY, base_url=f"{gateway.url}/v1", max_retries=0, http_client=client)


async def whole(client: openai.AsyncOpenAI, request: Row) -> Row:
    """A plain answer as the client reads it, or the error that it raises, without the model's name."""
    try:
        answer = await client.post("/chat/completions", cast_to=ChatCompletion, body=request)
    except openai.APIStatusError as error:
        return {"raised": type(error), "code": error.code, "param": error.param, "said": error.body["message"]}
    return answer.model_dump(exclude={"model"})


async def chunks(client: openai.AsyncOpenAI, request: Row) -> list[ChatCompletionChunk]:
    """A stream as the client reads it."""
    stream = await client.post(
        "/chat/completions",
        cast_to=ChatCompletionChunk,
        body=request,
        stream=True,
        stream_cls=openai.AsyncStream[ChatCompletionChunk],
    )
    return [chunk async for chunk in stream]


async def test_a_plain_answer_means_the_same(tmp_path: Path, upstream: Upstream) -> None:
    plain = rows(stream=False)
    assert plain
    async with replayed(tmp_path, upstream, plain) as client:
        for row in plain:
            assert await whole(client, row["request"]) == await whole(recorded(row), row["request"]), named(row)


async def test_a_stream_means_the_same(tmp_path: Path, upstream: Upstream) -> None:
    streamed = rows(stream=True)
    assert streamed
    async with replayed(tmp_path, upstream, streamed) as client:
        for row in streamed:
            ours = await chunks(client, row["request"])
            theirs = await chunks(recorded(row), row["request"])
            assert {chunk.model for chunk in ours} == {row["request"]["model"]}, named(row)
            assert [chunk.model_dump(exclude={"model"}) for chunk in ours] == [
                chunk.model_dump(exclude={"model"}) for chunk in theirs
            ], named(row)


async def test_a_stream_folded_for_a_plain_caller_means_the_same(tmp_path: Path, upstream: Upstream) -> None:
    streamed = rows(stream=True)
    async with replayed(tmp_path, upstream, streamed, type="vllm") as client:
        for row in streamed:
            state: ChatCompletionStreamState[Any] = ChatCompletionStreamState()
            counted = None
            for chunk in await chunks(recorded(row), row["request"]):
                state.handle_chunk(chunk)
                counted = chunk.usage or counted
            said = state.get_final_completion().model_copy(update={"usage": counted}).model_dump()
            request = {**row["request"], "stream": False, "stream_options": None}
            assert meaning(await whole(client, request)) == meaning(said), named(row)


def meaning(answer: Row) -> Row:
    """What a caller reads in an answer: not the marks that the client leaves of how it was put together."""
    choices = [
        {
            "finish_reason": choice["finish_reason"],
            "index": choice["index"],
            "content": choice["message"]["content"],
            "refusal": choice["message"]["refusal"],
            "calls": [
                (call["id"], call["type"], call["function"]["name"], call["function"]["arguments"])
                for call in choice["message"]["tool_calls"] or ()
            ],
            "logprobs": choice["logprobs"],
        }
        for choice in answer["choices"]
    ]
    return {**{name: answer[name] for name in ("id", "created", "object", "usage")}, "choices": choices}
