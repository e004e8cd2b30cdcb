"""``_proxy_info``: in bodies, in the last chunk that a stream shows, in headers; nothing else of an answer changes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.wire import gateway as gateways
from tests.wire.gateway import CHAT, MODEL, Gateway, Reply, bounded
from tests.wire.upstream import (
    DONE,
    HELLO,
    Call,
    Document,
    Script,
    Upstream,
    answering,
    chunk,
    completion,
    pausing,
    streaming,
    usage_chunk,
)

ASKED = {"stream_options": {"include_usage": True}}

told = bounded("gateway", proxy_info=True)
both_told = bounded("pair", proxy_info=True)


def choice(index: int, finish: str | None = None, **top: Any) -> Document:
    """A chunk of one of several choices."""
    document = chunk(None if finish else "x", finish, **top)
    return {**document, "choices": [{**document["choices"][0], "index": index}]}


def bearers(reply: Reply) -> list[int]:
    """The numbers of the events that carry it."""
    return [number for number, event in enumerate(reply.events) if "_proxy_info" in event]


@told
async def test_a_whole_answer_says_who_gave_it(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = answering(completion())
    reply = await gateway.plain()
    info = reply.json["_proxy_info"]
    assert list(info) == ["provider", "attempt_number", "response_time", "request_id"]
    assert (info["provider"], info["attempt_number"], info["request_id"]) == ("first", 1, reply.headers["x-request-id"])
    assert 0 <= info["response_time"] < 5, "it is in seconds"
    assert reply.headers["x-penstock-provider"] == "first"
    assert "x-penstock-failed" not in reply.headers


@told
async def test_the_bytes_before_it_are_the_engines_own(gateway: Gateway, upstream: Upstream) -> None:
    body = b'{ "model" : "public-1", "choices" : [ {"finish_reason":"stop", "message":{"content":"}"}} ], "x" : 1.50 }'
    upstream.script = answering(body + b" \r\n")
    reply = await gateway.plain()
    assert reply.body.startswith(body[:-1] + b',"_proxy_info":{"provider":"first",')
    assert reply.body.endswith(b"}}")


@told
@pytest.mark.parametrize(("path", "body", "answer"), [
    ("/v1/embeddings", {"input": "x"}, {"object": "list", "model": MODEL, "data": [{"embedding": [0.5]}]}),
    ("/v1/completions", {"prompt": "x"}, {"model": MODEL, "choices": [{"text": "!", "finish_reason": "stop"}]}),
])  # fmt: skip
async def test_it_is_in_every_kind_of_answer(
    gateway: Gateway, upstream: Upstream, path: str, body: dict[str, Any], answer: Document
) -> None:
    upstream.script = answering(answer)
    reply = await gateway.plain(path, **body)
    assert reply.json.pop("_proxy_info")["provider"] == "first"
    assert {name: value for name, value in reply.json.items() if name != "_proxy_info"} == answer


@told
async def test_the_word_of_another_gateway_upstream_gives_way(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = answering(completion(_proxy_info={"provider": "theirs", "request_id": "req_theirs"}))
    plain = await gateway.plain()
    assert plain.body.count(b"_proxy_info") == 1
    assert plain.json["_proxy_info"]["provider"] == "first"
    upstream.script = streaming(chunk("Hi"), chunk(finish="stop", _proxy_info={"provider": "theirs"}))
    streamed = await gateway.stream()
    assert streamed.body.count(b"_proxy_info") == 1
    assert streamed.events[-1]["_proxy_info"]["provider"] == "first"


TWICE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
STREAMS: dict[str, tuple[tuple[Document, ...], dict[str, Any], int]] = {
    "the finish": (HELLO, {}, 2),
    "the usage": (HELLO, ASKED, 3),
    "a finish with the usage in it": ((chunk("Hi"), chunk(finish="stop", usage=TWICE)), ASKED, 1),
    "the usage, where every chunk counts": (
        (chunk("Hi", usage=TWICE), chunk(" there", usage=TWICE), chunk(finish="stop"), usage_chunk()), ASKED, 3,
    ),
    "the usage, where others have none": (
        (chunk("Hi", usage=None), chunk(finish="stop", usage=None), usage_chunk()), ASKED, 2,
    ),
    "the last finish of several": (
        (choice(0), choice(1), choice(1, "stop"), choice(0), choice(0, "length"), usage_chunk()), {"n": 2}, 4,
    ),
    "the usage of several": (
        (choice(0), choice(1), choice(1, "stop"), choice(0, "stop"), usage_chunk()), {"n": 2, **ASKED}, 4,
    ),
    "one chunk that ends all": (
        (choice(0), {**chunk(), "choices": [*chunk(finish="stop")["choices"], *choice(1, "stop")["choices"]]}),
        {"n": 2}, 1,
    ),
    "a finish after words that look like one": ((chunk('"finish_reason":"stop"'), chunk(finish="stop")), {}, 1),
}  # fmt: skip


@told
@pytest.mark.parametrize("last", STREAMS)
@pytest.mark.parametrize("spaced", [False, True], ids=["compact", "spaced"])
async def test_of_a_stream_the_last_chunk_bears_it_alone(
    gateway: Gateway, upstream: Upstream, last: str, spaced: bool
) -> None:
    documents, body, number = STREAMS[last]
    upstream.script = streaming(*documents) if not spaced else spaced_out(*documents)
    reply = await gateway.stream(**body)
    assert reply.ended_well()
    assert bearers(reply) == [number] == [len(reply.events) - 1]
    assert reply.events[-1]["_proxy_info"]["request_id"] == reply.headers["x-request-id"]
    assert [event["choices"] for event in reply.events] == [document["choices"] for document in documents[: number + 1]]


def spaced_out(*documents: Document) -> Script:
    """A stream as Python's ``json.dumps`` writes it."""

    async def script(call: Call) -> None:
        call.begin()
        for document in documents:
            call.piece(b"data: " + json.dumps(document).encode() + b"\n\n")
        call.piece(DONE)
        call.finish()

    return script


@told
async def test_several_prompts_are_several_choices(gateway: Gateway, upstream: Upstream) -> None:
    def text(index: int, finish: str | None) -> Document:
        return {"model": "engine-1", "choices": [{"index": index, "text": "x", "finish_reason": finish}]}

    upstream.script = streaming(text(0, "stop"), text(1, None), text(1, "stop"))
    reply = await gateway.stream("/v1/completions", prompt=["one", "two"])
    assert bearers(reply) == [2]
    upstream.script = streaming(text(0, None), text(0, "stop"))
    assert bearers(await gateway.stream("/v1/completions", prompt=[1, 2, 3])) == [1], "tokens are one prompt"


@told
async def test_no_chunk_waits_for_the_next_one(gateway: Gateway, upstream: Upstream) -> None:
    go = asyncio.Event()

    def rest(call: Call) -> None:
        call.event(usage_chunk())
        call.piece(DONE)
        call.finish()

    upstream.script = pausing(go, chunk("Hi"), chunk(finish="stop"), then=rest)
    async with gateway.open({**CHAT, "stream": True}) as live:
        await live.until(lambda body: body.count(b"\n\n") == 2)
        assert b'"_proxy_info"' in live.body
        go.set()
        await live.rest()
    assert live.ended_well()


@both_told
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_attempts_that_failed_are_listed(
    pair: Gateway, upstream: Upstream, second: Upstream, stream: bool
) -> None:
    upstream.script = answering({"error": {"message": "out of order"}}, 500)
    second.script = streaming(*HELLO) if stream else answering(completion())
    reply = await (pair.stream() if stream else pair.plain())
    info = (reply.events[-1] if stream else reply.json)["_proxy_info"]
    assert (info["provider"], info["attempt_number"]) == ("second", 2)
    [failed] = info["attempts"]
    assert (failed["deployment"], failed["code"]) == (f"first/{MODEL}", "upstream_unavailable")
    assert 0 <= failed["seconds"] <= info["response_time"] + 0.001
    seconds = f"{failed['seconds']:.3f}"
    assert reply.headers["x-penstock-failed"] == f'"first/{MODEL}";code=upstream_unavailable;seconds={seconds}'
    assert (reply.headers["x-penstock-provider"], reply.headers["x-penstock-attempts"]) == ("second", "2")


@both_told
async def test_an_error_lists_them_in_its_headers_too(pair: Gateway, upstream: Upstream, second: Upstream) -> None:
    upstream.script = second.script = answering({"error": {"message": "out of order"}}, 500)
    reply = await pair.plain()
    assert reply.status == 503
    assert [attempt["deployment"] for attempt in reply.error["attempts"]] == [f"first/{MODEL}", f"second/{MODEL}"]
    assert reply.headers["x-penstock-attempts"] == "2"
    assert reply.headers["x-penstock-failed"].count(";code=upstream_unavailable;seconds=0.") == 2


async def test_who_reached_nobody_is_told_of_nobody(gateway: Gateway) -> None:
    reply = await gateway.plain(model="other")
    assert reply.status == 404
    assert [name for name in reply.headers if name.startswith("x-penstock-")] == ["x-penstock-config"]


async def test_it_can_be_switched_off(tmp_path: Path, upstream: Upstream) -> None:
    async with gateways.serve(tmp_path, gateways.provider(upstream.url), proxy_info=False) as gateway:
        upstream.script = answering(completion())
        assert b"_proxy_info" not in (await gateway.plain()).body
        upstream.script = streaming(*HELLO)
        reply = await gateway.stream()
        assert b"_proxy_info" not in reply.body
        assert reply.headers["x-penstock-provider"] == "first", "headers tell all the same"
