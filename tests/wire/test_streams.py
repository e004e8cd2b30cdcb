"""How a stream goes through: whole and in order, or ended by an error that says so; never in silence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from penstock.core import sse
from tests.wire.gateway import MODEL, Gateway, Live
from tests.wire.upstream import (
    BOM,
    DONE,
    HELLO,
    Call,
    Upstream,
    answering,
    chunk,
    event,
    pausing,
    streaming,
    usage_chunk,
)


def public(*documents: dict[str, object]) -> list[dict[str, object]]:
    """Chunks as the caller gets them: under the public model's name, the usage kept back."""
    return [{**document, "model": MODEL} for document in documents if "usage" not in document]


async def after_hello(gateway: Gateway, upstream: Upstream, act: Callable[[Call], object]) -> Live:
    """A stream whose upstream acts once its first chunk has reached the caller."""
    go = asyncio.Event()
    upstream.script = pausing(go, chunk("Hello"), then=act)
    async with gateway.open({"stream": True}) as live:
        await live.until(lambda body: b"Hello" in body)
        assert live.text == "Hello"
        go.set()
        await live.rest()
    return live


async def test_a_good_stream_arrives_whole_and_in_order(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = streaming(*HELLO)
    reply = await gateway.stream()
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["cache-control"] == "no-cache"
    assert reply.headers["x-request-id"].startswith("req_")
    assert reply.ended_well()
    assert reply.events == public(*HELLO)


async def test_each_event_is_passed_on_when_it_comes(gateway: Gateway, upstream: Upstream) -> None:
    live = await after_hello(gateway, upstream, lambda call: call.piece(event(chunk(" there", "stop")) + DONE))
    assert live.ended_well()
    assert live.text == "Hello there"


# The end of a stream


async def test_a_stream_that_is_reset_ends_with_an_error_event(gateway: Gateway, upstream: Upstream) -> None:
    live = await after_hello(gateway, upstream, Call.reset)
    assert live.failed_with()["code"] == "upstream_protocol_error"
    assert live.text == "Hello"
    outcome = await gateway.outcome()
    assert (outcome.ended, outcome.status, outcome.code) == ("failed", 502, "upstream_protocol_error")


async def test_a_stream_whose_upstream_hangs_up_ends_with_an_error_event(gateway: Gateway, upstream: Upstream) -> None:
    async def script(call: Call) -> None:
        call.begin()
        call.event(chunk("Hello"))
        call.close()

    upstream.script = script
    reply = await gateway.stream()
    assert reply.failed_with()["type"] == "upstream_error"
    assert reply.text == "Hello"


async def test_a_stream_that_ends_in_silence_ends_with_an_error_event(gateway: Gateway, upstream: Upstream) -> None:
    async def script(call: Call) -> None:
        call.begin()
        call.event(chunk("Hello"))
        call.event(chunk(finish="stop"))
        call.finish()

    upstream.script = script
    reply = await gateway.stream()
    assert "[DONE]" in reply.failed_with()["message"]


async def test_what_follows_done_is_not_passed_on(gateway: Gateway, upstream: Upstream) -> None:
    async def script(call: Call) -> None:
        call.begin()
        call.piece(event(chunk("Hello", "stop")) + DONE + event(chunk("again")))
        call.finish()

    upstream.script = script
    reply = await gateway.stream()
    assert reply.ended_well()
    assert reply.text == "Hello"


async def test_done_needs_no_blank_line_after_it(gateway: Gateway, upstream: Upstream) -> None:
    async def script(call: Call) -> None:
        call.begin()
        call.piece(event(chunk("Hello", "stop")) + b"data: [DONE]")
        call.finish()

    upstream.script = script
    assert (await gateway.stream()).ended_well()


async def test_done_ends_the_stream_although_the_upstream_leaves_its_own_open(
    gateway: Gateway, upstream: Upstream
) -> None:
    async def script(call: Call) -> None:
        call.begin()
        call.piece(event(chunk("Hello", "stop")) + DONE)
        await call.gone.wait()

    upstream.script = script
    assert (await gateway.stream()).ended_well()


async def test_a_body_without_length_or_chunks_is_a_stream_too(gateway: Gateway, upstream: Upstream) -> None:
    async def script(call: Call) -> None:
        call.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        call.write(event(chunk("Hello", "stop")) + DONE)
        call.close()

    upstream.script = script
    assert (await gateway.stream()).ended_well()


# Error frames


FULL = {
    "error": {"object": "error", "message": "The request queue is full.", "type": "SERVICE_UNAVAILABLE", "code": 503}
}
WRONG = {"error": {"object": "error", "message": "Failed to compile json grammar.", "type": "BAD_REQUEST", "code": 400}}


async def test_an_error_frame_first_becomes_a_plain_error(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = streaming(FULL)
    reply = await gateway.stream()
    assert reply.status == 502
    assert reply.headers["content-type"] == "application/json"
    assert "The request queue is full." in reply.error["message"]


async def test_an_error_frame_that_blames_the_caller_keeps_its_status(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = streaming(WRONG)
    reply = await gateway.stream()
    assert reply.status == 400
    assert reply.error["type"] == "invalid_request_error"
    assert reply.error["message"] == "Failed to compile json grammar."


async def test_an_error_frame_first_moves_the_request_on(pair: Gateway, upstream: Upstream, second: Upstream) -> None:
    upstream.script = streaming(FULL)
    second.script = streaming(*HELLO)
    reply = await pair.stream()
    assert reply.ended_well()
    assert reply.text == "Hello there"
    assert reply.headers["x-penstock-deployment"] == f"second/{MODEL}"
    assert reply.headers["x-penstock-attempts"] == "2"


async def test_an_error_frame_later_becomes_an_error_event(pair: Gateway, upstream: Upstream, second: Upstream) -> None:
    live = await after_hello(pair, upstream, lambda call: call.event(FULL))
    assert "The request queue is full." in live.failed_with()["message"]
    assert not second.calls, "a stream that has begun was tried elsewhere"


async def test_what_comes_in_one_piece_with_an_error_frame_is_not_lost(gateway: Gateway, upstream: Upstream) -> None:
    live = await after_hello(gateway, upstream, lambda call: call.piece(event(chunk(" there")) + event(FULL)))
    assert live.failed_with()
    assert live.text == "Hello there"


async def test_an_error_frame_before_the_caller_saw_anything_moves_the_request_on(
    pair: Gateway, upstream: Upstream, second: Upstream
) -> None:
    upstream.script = streaming(chunk("Hel"), FULL)
    second.script = streaming(*HELLO)
    assert (await pair.stream()).text == "Hello there"


async def test_an_answer_about_errors_is_no_error(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = streaming(chunk('{"error": "not one"}'), {**chunk(finish="stop"), "error": None})
    reply = await gateway.stream()
    assert reply.ended_well()
    assert reply.text == '{"error": "not one"}'


# Framing

WHOLE = b"".join(map(event, HELLO)) + DONE


def multi_line(stream: bytes) -> bytes:
    return stream.replace(b',"', b',\ndata: "')


def with_comments(stream: bytes) -> bytes:
    return b": hello\n\n" + stream.replace(b"data: ", b": ping\n\nid: 7\nevent: message\nretry: 10\ndata: ")


FRAMINGS: dict[str, Callable[[bytes], bytes]] = {
    "LF": bytes,
    "CRLF": lambda stream: stream.replace(b"\n", b"\r\n"),
    "CR": lambda stream: stream.replace(b"\n", b"\r"),
    "multi-line": multi_line,
    "multi-line CRLF": lambda stream: multi_line(stream).replace(b"\n", b"\r\n"),
    "comments": with_comments,
    "BOM": lambda stream: BOM + stream,
    "no space after the colon": lambda stream: stream.replace(b"data: ", b"data:"),
    "extra blank lines": lambda stream: stream.replace(b"\n\n", b"\n\n\n\n"),
    "empty events": lambda stream: stream.replace(b"\n\n", b"\n\ndata:\n\ndata\n\n"),
}


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_a_stream_is_understood_however_it_is_framed_and_cut(
    gateway: Gateway, upstream: Upstream, framing: str
) -> None:
    stream = FRAMINGS[framing](WHOLE)
    for size in (1, 7, len(stream)):

        async def script(call: Call, size: int = size) -> None:
            call.begin()
            for start in range(0, len(stream), size):
                call.piece(stream[start : start + size])
                await call.drained()
            call.finish()

        upstream.script = script
        reply = await gateway.stream()
        assert reply.ended_well(), f"{size} bytes at a time"
        assert reply.events == public(*HELLO), f"{size} bytes at a time"


async def test_an_event_that_ends_in_carriage_returns_is_passed_on_at_once(
    gateway: Gateway, upstream: Upstream
) -> None:
    async def script(call: Call) -> None:
        call.begin()
        call.piece(event(chunk("Hello")).replace(b"\n", b"\r"))
        await call.gone.wait()

    upstream.script = script
    async with gateway.open({"stream": True}) as live:
        await live.until(lambda body: b"Hello" in body)


async def test_an_event_of_a_megabyte_goes_through(gateway: Gateway, upstream: Upstream) -> None:
    long = "word " * 200_000
    upstream.script = streaming(chunk(long), chunk(finish="stop"))
    reply = await gateway.stream()
    assert reply.ended_well()
    assert reply.text == long


async def test_an_event_beyond_the_limit_is_refused(
    gateway: Gateway, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(call: Call) -> None:
        call.begin()
        call.event(chunk("Hello"))
        while not call.gone.is_set():
            call.piece(b"data: " + b"x" * 65536)
            await call.drained()

    monkeypatch.setattr(sse, "MAX_EVENT", 1_000_000)
    upstream.script = script
    reply = await gateway.stream()
    assert "longer than 1000000 bytes" in reply.failed_with()["message"]


# Answers that are no streams


@pytest.mark.parametrize(
    ("document", "kind"),
    [(b"<html>Sign in</html>", "text/html"), ({"hello": 1}, "application/json"), (b"", "")],
    ids=["a page", "some JSON", "nothing"],
)
async def test_a_200_that_is_no_stream_is_a_failed_attempt(
    pair: Gateway, upstream: Upstream, second: Upstream, document: object, kind: str
) -> None:
    upstream.script = answering(document, 200, kind)
    second.script = streaming(*HELLO)
    assert (await pair.stream()).text == "Hello there"


async def test_a_200_that_is_no_stream_is_an_error_where_nobody_else_answers(
    gateway: Gateway, upstream: Upstream
) -> None:
    upstream.script = answering(b"<html>Sign in</html>", 200, "text/html")
    reply = await gateway.stream()
    assert (reply.status, reply.error["code"]) == (502, "upstream_protocol_error")
    assert "text/html" in reply.error["message"]


async def test_an_error_object_instead_of_a_stream_is_that_error(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = answering(WRONG)
    reply = await gateway.stream()
    assert (reply.status, reply.error["message"]) == (400, "Failed to compile json grammar.")


async def test_a_stream_without_a_chunk_is_a_failed_attempt(
    pair: Gateway, upstream: Upstream, second: Upstream
) -> None:
    upstream.script = streaming()
    second.script = streaming(*HELLO)
    assert (await pair.stream()).text == "Hello there"


async def test_a_stream_of_usage_alone_is_a_failed_attempt(pair: Gateway, upstream: Upstream, second: Upstream) -> None:
    upstream.script = streaming(usage_chunk())
    second.script = streaming(*HELLO)
    assert (await pair.stream()).text == "Hello there"


CUT_JSON = event(chunk("Hello there"))[len(b"data: ") : -30]


async def test_broken_json_first_is_a_failed_attempt(pair: Gateway, upstream: Upstream, second: Upstream) -> None:
    async def script(call: Call) -> None:
        call.begin()
        call.piece(b"data: " + CUT_JSON + b"\n\n" + DONE)
        call.finish()

    upstream.script = script
    second.script = streaming(*HELLO)
    assert (await pair.stream()).text == "Hello there"


async def test_broken_json_later_ends_the_stream_with_an_error_event(gateway: Gateway, upstream: Upstream) -> None:
    live = await after_hello(gateway, upstream, lambda call: call.piece(b"data: " + CUT_JSON + b"\n\n" + DONE))
    assert live.failed_with()["code"] == "upstream_protocol_error"
    assert live.text == "Hello"


@pytest.mark.parametrize("payload", [b"[]", b"7", b"null", b'"error"', b"{"])
async def test_a_payload_that_is_no_object_is_an_error(gateway: Gateway, upstream: Upstream, payload: bytes) -> None:
    async def script(call: Call) -> None:
        call.begin()
        call.piece(b"data: " + payload + b"\n\n" + DONE)
        call.finish()

    upstream.script = script
    reply = await gateway.stream()
    assert (reply.status, reply.error["code"]) == (502, "upstream_protocol_error")
