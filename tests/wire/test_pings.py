"""A stream that has nothing to say yet is kept alive by comments, and may still be moved on."""

from __future__ import annotations

import asyncio

from tests.wire.gateway import MODEL, Gateway, bounded
from tests.wire.upstream import DONE, HELLO, Call, Upstream, answering, chunk, event, pausing, streaming

PING = b": ping\n\n"

pinging = bounded("gateway", ping_interval=0.02)
pinging_pair = bounded("pair", ping_interval=0.02)


def silent(go: asyncio.Event, upstream: Upstream) -> None:
    """Make an upstream that says nothing at all until ``go``, and is then reset."""

    async def script(call: Call) -> None:
        await go.wait()
        call.reset()

    upstream.script = script


@pinging
async def test_a_slow_first_byte_is_bridged_by_comments(gateway: Gateway, upstream: Upstream) -> None:
    async def script(call: Call) -> None:
        await go.wait()
        call.stream(*HELLO)

    go = asyncio.Event()
    upstream.script = script
    async with gateway.open({"stream": True}) as live:
        await live.until(lambda body: body.count(PING) >= 3)
        assert live.status == 200
        assert live.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert live.body == PING * live.body.count(PING)
        go.set()
        await live.rest()
    assert live.ended_well()
    assert live.text == "Hello there"


@pinging
async def test_a_silence_in_mid_stream_is_bridged_by_comments(gateway: Gateway, upstream: Upstream) -> None:
    go = asyncio.Event()
    upstream.script = pausing(go, chunk("Hello"), then=lambda call: call.piece(event(chunk(finish="stop")) + DONE))
    async with gateway.open({"stream": True}) as live:
        await live.until(lambda body: b"Hello" in body and body.count(PING) >= 3)
        go.set()
        await live.rest()
    assert live.ended_well()


async def test_a_stream_that_speaks_needs_no_comments(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = streaming(*HELLO)
    assert PING not in (await gateway.stream()).body


@pinging_pair
async def test_after_comments_another_deployment_may_still_answer(
    pair: Gateway, upstream: Upstream, second: Upstream
) -> None:
    go = asyncio.Event()
    silent(go, upstream)
    second.script = streaming(*HELLO)
    async with pair.open({"stream": True}) as live:
        await live.until(lambda body: PING in body)
        go.set()
        await live.rest()
    assert live.ended_well()
    assert live.text == "Hello there"
    assert (await pair.outcome()).deployment == f"second/{MODEL}"


@pinging
async def test_after_comments_a_failure_is_an_error_event(gateway: Gateway, upstream: Upstream) -> None:
    go = asyncio.Event()
    silent(go, upstream)
    async with gateway.open({"stream": True}) as live:
        await live.until(lambda body: PING in body)
        go.set()
        await live.rest()
    assert live.status == 200
    assert live.failed_with()["code"] == "upstream_unavailable"


@pinging_pair
async def test_after_comments_the_failure_of_all_is_an_error_event(
    pair: Gateway, upstream: Upstream, second: Upstream
) -> None:
    go = asyncio.Event()
    silent(go, upstream)
    second.script = answering({"error": {"message": "out of order"}}, 500)
    async with pair.open({"stream": True}) as live:
        await live.until(lambda body: PING in body)
        go.set()
        await live.rest()
    error = live.failed_with()
    assert error["code"] == "provider_unavailable"
    assert [attempt["code"] for attempt in error["attempts"]] == ["upstream_unavailable", "upstream_unavailable"]


@bounded("gateway", ping_interval=0.02, timeout=0.3)
async def test_comments_do_not_put_off_the_deadline(gateway: Gateway, upstream: Upstream) -> None:
    silent(asyncio.Event(), upstream)
    reply = await gateway.stream()
    assert PING in reply.body
    assert reply.failed_with()["code"] == "upstream_timeout"


@pinging
async def test_an_error_before_the_first_comment_is_a_plain_response(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = answering({"error": {"message": "no such field"}}, 400)
    reply = await gateway.stream()
    assert reply.status == 400
    assert reply.headers["content-type"] == "application/json"
