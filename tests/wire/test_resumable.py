"""Streams that can be resumed, on a real socket: cut anywhere, read on by id on any process, stopped, restarted."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from penstock.core.jobs import following, runner
from penstock.dialects._following import within
from penstock.errors import Restarting
from penstock.schema.job import CANCELLED
from penstock.schema.limit import Limits
from tests.wire import gateway as gateways
from tests.wire.gateway import KEY, MODEL, Gateway
from tests.wire.test_jobs import ended, made, read
from tests.wire.upstream import (
    Call,
    Upstream,
    answering,
    chunk,
    completion,
    pausing,
    streaming,
    usage_chunk,
)

RESUMABLE = {"prefer": "resumable"}
STORY = (*(chunk(f"{number} ") for number in range(40)), chunk(finish="stop"), usage_chunk(7, 40))
TEXT = "".join(f"{number} " for number in range(40))


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch, upstream: Upstream) -> None:
    upstream.script = streaming(*STORY)
    monkeypatch.setattr(runner, "RENEWED", 0.05)
    for name in ("FIRST_LOOK", "LONGEST_LOOK", "NEXT_LOOK", "STATUS"):
        monkeypatch.setattr(following, name, 0.01)


class Events:
    """What a client of a stream gets: ``ids`` and ``payloads`` of its events, as they come."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self.ids: list[str] = []
        self.payloads: list[bytes] = []
        self._pieces = response.aiter_raw()
        self._rest = b""

    async def until(self, count: int) -> None:
        """Read until there are so many events, or the stream has ended."""
        async with asyncio.timeout(gateways.PATIENCE):
            async for piece in self._pieces:
                *frames, self._rest = (self._rest + piece).split(b"\n\n")
                for frame in frames:
                    self._take(frame)
                if len(self.payloads) >= count:
                    return

    def _take(self, frame: bytes) -> None:
        fields = dict(line.split(b": ", 1) for line in frame.split(b"\n") if not line.startswith(b":"))
        if b"data" in fields:
            self.payloads.append(fields[b"data"])
            self.ids.append(fields.get(b"id", b"").decode())

    @property
    def documents(self) -> list[Any]:
        """The events but ``[DONE]``, parsed."""
        return [json.loads(payload) for payload in self.payloads if payload != b"[DONE]"]

    @property
    def text(self) -> str:
        """What was said."""
        return said(self.documents)


def said(documents: list[Any]) -> str:
    """The text of chunks."""
    return "".join(c["delta"].get("content") or "" for each in documents for c in each.get("choices", ()))


@asynccontextmanager
async def opened(gateway: Gateway, request: httpx.Request) -> AsyncIterator[Events]:
    """A stream that is read as the test goes, and cut at the end of the block."""
    response = await gateway.client.send(request, stream=True)
    try:
        yield Events(response)
    finally:
        await response.aclose()


def asking(gateway: Gateway, prefer: str = "resumable", key: str = KEY, **body: Any) -> httpx.Request:
    """A request for a stream that can be resumed."""
    request = gateway.request({"stream": True, **body})
    request.headers.update({"prefer": prefer, "authorization": f"Bearer {key}"})
    return request


def going_on(gateway: Gateway, location: str, after: str | None = None) -> httpx.Request:
    """The request that goes on with a stream after an event."""
    headers = {"last-event-id": after} if after else {}
    return gateway.client.build_request("GET", f"{location}/stream", headers=headers)


async def whole(gateway: Gateway, request: httpx.Request) -> Events:
    """All of a stream."""
    async with opened(gateway, request) as events:
        await events.until(10**6)
    return events


async def test_a_resumable_stream_says_the_same_with_an_id_for_each_event(gateway: Gateway) -> None:
    plain = await gateway.stream()
    events = await whole(gateway, asking(gateway))
    assert events.status == 200
    assert events.headers["preference-applied"] == "resumable"
    assert events.headers["location"].startswith("/v1/jobs/job_")
    assert events.headers["x-penstock-deployment"] == plain.headers["x-penstock-deployment"]
    assert events.payloads == plain.payloads
    assert events.ids == [f"1-{number}" for number in range(1, 42)] + [""]


async def test_the_job_has_the_whole_answer_and_one_outcome(gateway: Gateway) -> None:
    events = await whole(gateway, asking(gateway))
    answer = await read(gateway, events.headers["location"])
    assert answer.json["choices"][0]["message"]["content"] == TEXT
    assert answer.json["usage"]["completion_tokens"] == 40
    outcome = await gateway.outcome()
    assert (outcome.ended, outcome.stream, outcome.usage.completion_tokens) == ("ok", True, 40)
    assert outcome.ttft is not None


@pytest.mark.parametrize("wanted", [True, False])
async def test_usage_is_told_to_who_asked_for_it(gateway: Gateway, wanted: bool) -> None:
    events = await whole(gateway, asking(gateway, stream_options={"include_usage": wanted}))
    assert any(document.get("usage") for document in events.documents) is wanted


async def test_cut_after_each_event_it_is_read_on_without_loss_or_repeat(gateway: Gateway) -> None:
    async with opened(gateway, asking(gateway)) as events:
        await events.until(1)
        location, ids, documents = events.headers["location"], events.ids, events.documents
    while len(documents) < 41:
        async with opened(gateway, going_on(gateway, location, ids[-1])) as more:
            await more.until(1)
            documents += more.documents[:3]
            ids += [name for name in more.ids if name][:3]
    assert said(documents) == TEXT
    assert ids == [f"1-{number}" for number in range(1, 42)]


async def test_who_leaves_a_resumable_stream_leaves_it_running(gateway: Gateway, upstream: Upstream) -> None:
    go = asyncio.Event()
    upstream.script = pausing(go, *STORY[:10], then=rest_of(STORY[10:]))
    async with opened(gateway, asking(gateway)) as events:
        await events.until(10)
    go.set()
    later = await ended(gateway, events.headers["location"])
    assert later.json["choices"][0]["message"]["content"] == TEXT
    assert not upstream.calls[0].gone.is_set() or (await gateway.outcome()).ended == "ok"


async def test_the_first_token_waits_for_nothing(gateway: Gateway, upstream: Upstream) -> None:
    go = asyncio.Event()
    upstream.script = pausing(go, STORY[0], then=rest_of(STORY[1:]))
    async with opened(gateway, asking(gateway)) as events:
        await events.until(1)
        assert events.text == "0 "
        go.set()
        await events.until(10**6)
    assert events.text == TEXT


async def test_another_process_tells_it_while_it_is_written(
    gateway: Gateway, upstream: Upstream, tmp_path: Path
) -> None:
    go = asyncio.Event()
    upstream.script = pausing(go, *STORY[:10], then=rest_of(STORY[10:]))
    async with gateways.serve(tmp_path, gateways.provider(upstream.url)) as other:
        async with opened(gateway, asking(gateway)) as events:
            await events.until(5)
        async with opened(other, going_on(other, events.headers["location"], events.ids[4])) as more:
            await more.until(5)
            assert events.documents[:5] + more.documents == list(map(public, STORY[:10]))
            go.set()
            await more.until(10**6)
    assert said(events.documents[:5]) + more.text == TEXT
    assert more.payloads[-1] == b"[DONE]"


async def test_openai_s_client_reads_a_resumable_stream(gateway: Gateway) -> None:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0) as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Hello"}], stream=True, extra_headers=RESUMABLE
        )
        parts = [part.choices[0].delta.content or "" async for part in stream]
        again = await client.get(
            stream.response.headers["location"].removeprefix("/v1") + "/stream",
            cast_to=openai.types.chat.ChatCompletionChunk,
            stream=True,
            stream_cls=openai.AsyncStream[openai.types.chat.ChatCompletionChunk],
        )
        assert "".join(parts) == TEXT
        assert "".join([part.choices[0].delta.content or "" async for part in again]) == TEXT


async def test_a_stream_that_is_answered_later_can_be_followed(gateway: Gateway, upstream: Upstream) -> None:
    accepted = await gateway.client.send(asking(gateway, "respond-async"))
    assert accepted.status_code == 202
    events = await whole(gateway, going_on(gateway, accepted.headers["location"]))
    assert (events.text, events.payloads[-1]) == (TEXT, b"[DONE]")
    assert events.ids[0] == "1-1"


async def test_a_job_that_was_not_streamed_is_one_event(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = answering(completion())
    accepted = await gateway.client.send(asking(gateway, "respond-async", stream=False))
    events = await whole(gateway, going_on(gateway, accepted.headers["location"]))
    assert events.text == "Hello there"
    assert len(events.payloads) == 2
    assert events.documents[0]["object"] == "chat.completion.chunk"


async def test_deleting_the_job_stops_engine_and_readers(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = pausing(asyncio.Event(), *STORY[:10], then=rest_of(()))
    async with opened(gateway, asking(gateway)) as events:
        await events.until(10)
        began = time.monotonic()
        deleted = await read(gateway, events.headers["location"], "DELETE")
        assert deleted.json["status"] == CANCELLED
        await events.until(10**6)
    await asyncio.wait_for(upstream.calls[0].gone.wait(), gateways.PATIENCE)
    assert time.monotonic() - began < 2
    assert events.documents[-1]["error"]["code"] == "job_cancelled"
    assert b"[DONE]" not in events.payloads


async def test_an_upstream_that_breaks_off_ends_job_and_stream(gateway: Gateway, upstream: Upstream) -> None:
    go = asyncio.Event()
    upstream.script = pausing(go, *STORY[:10], then=Call.close)
    async with opened(gateway, asking(gateway)) as events:
        await events.until(10)
        go.set()
        await events.until(10**6)
    assert events.documents[-1]["error"]["type"] == "upstream_error"
    again = await whole(gateway, going_on(gateway, events.headers["location"], "1-4"))
    assert [said([each]) for each in again.documents[:-1]] == [f"{number} " for number in range(4, 10)]
    assert again.documents[-1]["error"]["code"] == events.documents[-1]["error"]["code"]
    assert len(upstream.calls) == 1


async def test_a_failure_before_the_first_event_is_a_plain_error(gateway: Gateway, upstream: Upstream) -> None:
    wrong = {"error": {"message": "No such thing.", "type": "invalid_request_error", "code": "odd", "param": "n"}}
    upstream.script = answering(wrong, 400)
    reply = await gateway.client.send(asking(gateway))
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "odd")
    assert len(upstream.calls) == 1


async def test_what_is_not_admitted_becomes_no_job(tmp_path: Path, upstream: Upstream) -> None:
    async with gateways.serve(tmp_path, gateways.provider(upstream.url)) as gateway:
        upstream.script = pausing(asyncio.Event(), *STORY[:3], then=rest_of(()))
        key = await made(gateway, limits=Limits(concurrency=1))
        async with opened(gateway, asking(gateway, key=key)) as events:
            await events.until(3)
            refused = await gateway.client.send(asking(gateway, key=key))
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limited")
            assert "location" not in refused.headers
            due = await gateway.house.store.due_jobs(time.time() + 10**6, limit=10)
            assert [job.id for job in due] == [events.headers["location"].rpartition("/")[2]]
            headers = {"authorization": f"Bearer {key}"}
            await gateway.client.delete(events.headers["location"], headers=headers)
            await events.until(10**6)


async def test_where_another_begins_anew_the_reader_is_told(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = pausing(asyncio.Event(), *STORY[:10], then=rest_of(()))
    store = gateway.house.store
    async with opened(gateway, asking(gateway)) as events:
        await events.until(10)
        job_id = events.headers["location"].rpartition("/")[2]
        now = time.time() + 1000
        assert await store.claim_job(job_id, "another", now=now, lease=30) is not None
        await store.append_chunks(job_id, 2, 1, [json.dumps(public(chunk("anew"))).encode(), b"[DONE]"], expires=now)
        await events.until(10**6)
        assert events.documents[-1]["error"]["code"] == "generation_restarted"
    assert await store.finish_job(job_id, "another", now=now, expires=now + 60, result=b"{}")
    reply = await gateway.client.send(going_on(gateway, events.headers["location"], "1-3"))
    assert (reply.status_code, reply.json()["error"]["code"]) == (410, "generation_restarted")
    again = await whole(gateway, going_on(gateway, events.headers["location"]))
    assert (again.text, again.ids[0], again.payloads[-1]) == ("anew", "2-1", b"[DONE]")


@pytest.mark.parametrize("place", ["x", "1", "2-1", "0-0", "1-x", "-", "9999999999-1"])
async def test_an_id_that_never_was_is_refused(gateway: Gateway, place: str) -> None:
    events = await whole(gateway, asking(gateway))
    reply = await gateway.client.send(going_on(gateway, events.headers["location"], place))
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "Last-Event-ID")


async def test_an_id_beyond_the_end_is_told_so_and_the_last_one_is_done(gateway: Gateway) -> None:
    events = await whole(gateway, asking(gateway))
    location = events.headers["location"]
    beyond = await gateway.client.send(going_on(gateway, location, "1-99"))
    assert (beyond.status_code, beyond.json()["error"]["code"]) == (410, "stream_lost")
    last = await whole(gateway, going_on(gateway, location, "1-41"))
    assert last.payloads == [b"[DONE]"]
    in_url = await gateway.client.get(f"{location}/stream?last_event_id=1-40")
    assert in_url.text.startswith("id: 1-41\ndata: ")


async def test_a_stream_is_nobody_elses(gateway: Gateway) -> None:
    events = await whole(gateway, asking(gateway))
    request = going_on(gateway, events.headers["location"])
    request.headers["authorization"] = f"Bearer {await made(gateway)}"
    assert (await gateway.client.send(request)).status_code == 404
    request.headers["authorization"] = ""
    assert (await gateway.client.send(request)).status_code == 401


async def test_what_its_way_was_is_told_once_to_every_reader(tmp_path: Path, upstream: Upstream) -> None:
    async with gateways.serve(tmp_path, gateways.provider(upstream.url), proxy_info=True) as gateway:
        events = await whole(gateway, asking(gateway))
        assert events.documents[-1]["_proxy_info"]["provider"] == "first"
        again = await whole(gateway, going_on(gateway, events.headers["location"]))
        assert again.payloads == events.payloads


@pytest.mark.parametrize("prefer", ["resumable", "resumable, respond-async"])
async def test_a_plain_request_has_no_stream_to_resume(gateway: Gateway, upstream: Upstream, prefer: str) -> None:
    upstream.script = answering(completion())
    reply = await gateway.client.send(asking(gateway, prefer, stream=False))
    assert reply.headers.get("preference-applied", "") != "resumable"


async def test_completions_are_resumed_as_well(gateway: Gateway, upstream: Upstream) -> None:
    part = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "engine-1"}
    parts = [{**part, "choices": [{"index": 0, "text": text, "finish_reason": None}]} for text in "abc"]
    last = {**part, "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}
    upstream.script = streaming(*parts, last)
    request = gateway.request({"stream": True, "prompt": "Say"}, "/v1/completions")
    request.headers.update(RESUMABLE)
    events = await whole(gateway, request)
    again = await whole(gateway, going_on(gateway, events.headers["location"], "1-2"))
    assert [each["choices"][0]["text"] for each in again.documents] == ["c", ""]


async def test_a_server_that_is_stopped_gives_the_stream_to_the_next(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.script = pausing(asyncio.Event(), *STORY[:5], then=rest_of(()))
    async with gateways.serve(tmp_path, gateways.provider(upstream.url)) as gateway:
        monkeypatch.setattr(gateway.house.consumer, "_grace", 0.1)
        async with opened(gateway, asking(gateway)) as events:
            await events.until(5)
    upstream.script = streaming(*STORY)
    async with gateways.serve(tmp_path, gateways.provider(upstream.url)) as gateway:
        again = await whole(gateway, going_on(gateway, events.headers["location"]))
    assert (again.text, again.payloads[-1]) == (TEXT, b"[DONE]")


async def test_where_time_is_bounded_a_stream_ends_with_a_word_on_how_to_go_on() -> None:
    with pytest.raises(Restarting, match="read on after the last event's id"):
        async with within(0.001):
            await asyncio.Event().wait()


def rest_of(documents: tuple[Any, ...]) -> Any:
    """What ends a stream that paused."""

    def finish(call: Call) -> None:
        for document in documents:
            call.event(document)
        call.piece(b"data: [DONE]\n\n")
        call.finish()

    return finish


def public(document: Any) -> Any:
    """A chunk as callers see it."""
    return {**document, "model": MODEL}
