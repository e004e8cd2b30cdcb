"""The same upstream again: when it may be tried again, how long after, and when it is left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.core.routing import place as places
from penstock.core.routing import router as routers
from tests.unit.memory import Clock
from tests.wire.gateway import MODEL, provider, serve
from tests.wire.upstream import (
    DONE,
    HELLO,
    Call,
    Script,
    Upstream,
    answering,
    chunk,
    completion,
    pausing,
    streaming,
    usage_chunk,
)

DOWN = {"error": {"message": "out of order", "type": "server_error", "code": None}}


def one_after_the_other(*scripts: Script) -> Script:
    """A script that plays these, one for each call, and the last one again and again."""
    coming: Iterator[Script] = iter(scripts)
    last = scripts[-1]

    async def script(call: Call) -> None:
        await next(coming, last)(call)

    return script


def finish(call: Call) -> None:
    """End a stream well."""
    for document in (chunk(finish="stop"), usage_chunk()):
        call.event(document)
    call.piece(DONE)
    call.finish()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_provider_with_retries_is_tried_again(tmp_path: Path, upstream: Upstream, stream: bool) -> None:
    good = streaming(*HELLO) if stream else answering(completion())
    upstream.script = one_after_the_other(answering(DOWN, 500), answering(DOWN, 503), good)
    async with serve(tmp_path, provider(upstream.url, max_retries=2, retry_delay=0.01)) as gateway:
        reply = await (gateway.stream() if stream else gateway.plain())
        assert (reply.status, reply.headers["x-penstock-attempts"]) == (200, "3")
        [outcome] = await gateway.outcomes()
        assert (outcome.ended, outcome.attempts) == ("ok", 3)


async def test_without_retries_it_is_tried_once(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script = answering(DOWN, 500)
    async with serve(tmp_path, provider(upstream.url)) as gateway:
        assert (await gateway.plain()).status == 502
    assert len(upstream.calls) == 1


async def test_its_retry_after_is_honoured(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script = one_after_the_other(answering(DOWN, 429, **{"Retry-After": "1"}), answering(completion()))
    async with serve(tmp_path, provider(upstream.url, max_retries=1, retry_delay=0.01)) as gateway:
        began = asyncio.get_running_loop().time()
        assert (await gateway.plain()).status == 200
        assert asyncio.get_running_loop().time() - began >= 1


async def test_a_retry_after_past_the_deadline_is_told_at_once(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script = answering(DOWN, 429, **{"Retry-After": "30"})
    async with serve(tmp_path, provider(upstream.url, max_retries=5), timeout=5) as gateway:
        reply = await gateway.plain()
    assert (reply.status, reply.headers["retry-after"]) == (503, "30")
    assert len(upstream.calls) == 1


async def test_others_come_before_a_second_time(tmp_path: Path, upstream: Upstream, second: Upstream) -> None:
    upstream.script, second.script = answering(DOWN, 500), answering(completion())
    providers = [provider(upstream.url, max_retries=3), provider(second.url, name="second", priority=2)]
    async with serve(tmp_path, *providers) as gateway:
        assert (await gateway.plain()).status == 200
    assert (len(upstream.calls), len(second.calls)) == (1, 1)


async def test_nothing_is_tried_again_after_the_first_token(tmp_path: Path, upstream: Upstream) -> None:
    go = asyncio.Event()
    go.set()
    upstream.script = pausing(go, chunk("Hel"), then=lambda call: call.reset())
    async with serve(tmp_path, provider(upstream.url, max_retries=5, retry_delay=0.01)) as gateway:
        live = await gateway.stream()
        assert live.text == "Hel"
        assert live.failed_with()["code"] == "upstream_protocol_error"
    assert len(upstream.calls) == 1


async def test_an_upstream_that_fails_is_left_alone_and_found_again(
    tmp_path: Path, upstream: Upstream, second: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(places, "time", clock)
    monkeypatch.setattr(routers, "time", clock)
    upstream.script, second.script = answering(DOWN, 500), answering(completion())
    providers = [provider(upstream.url), provider(second.url, name="second", priority=2)]
    async with serve(tmp_path, *providers) as gateway:
        for _ in range(8):
            assert (await gateway.plain()).status == 200
        assert (len(upstream.calls), len(second.calls)) == (5, 8), "after five failures in a row it is left alone"
        upstream.script = answering(completion())
        clock.now += 60
        for _ in range(3):
            assert (await gateway.plain()).headers["x-penstock-deployment"] == "first/public-1"
    assert (len(upstream.calls), len(second.calls)) == (8, 8)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("begun", [False, True], ids=["before the head", "after it"])
async def test_who_sends_no_token_in_its_time_is_followed_by_the_next(
    tmp_path: Path, upstream: Upstream, second: Upstream, stream: bool, begun: bool
) -> None:
    async def stalled(call: Call) -> None:
        if begun:
            call.begin()
        await call.gone.wait()

    upstream.script, second.script = stalled, streaming(*HELLO)
    first = provider(upstream.url, type="vllm", first_token_timeout=0.2)
    other = provider(second.url, type="vllm", name="second", priority=2)
    async with serve(tmp_path, first, other) as gateway:
        reply = await (gateway.stream() if stream else gateway.plain())
    assert (reply.status, reply.headers["x-penstock-deployment"]) == (200, f"second/{MODEL}")
    assert upstream.calls[0].gone.is_set()


async def test_the_time_for_the_first_token_is_not_that_of_the_answer(tmp_path: Path, upstream: Upstream) -> None:
    go = asyncio.Event()
    upstream.script = pausing(go, chunk("Hello"), then=finish)
    async with serve(tmp_path, provider(upstream.url, first_token_timeout=0.2)) as gateway:
        async with gateway.open({"stream": True}) as live:
            await live.until(lambda body: b"Hello" in body)
            asyncio.get_running_loop().call_later(0.4, go.set)
            await live.rest()
        assert live.ended_well()
