"""Faults of streams: of their framing, before their first word, and after it."""

from __future__ import annotations

import asyncio
import json

from tests.wire.outage.answers import end, events, opening, part, parts, streams, whole
from tests.wire.outage.faults import BUSY, DOWN, LATE, NONE, ODD, Catalogue
from tests.wire.outage.statuses import error
from tests.wire.upstream import DONE, Call, Document, event

FAULTS = Catalogue()
FLAT: Document = {"object": "error", "message": "Aborted by the scheduler.", "type": "INTERNAL", "param": None}


# Before the first word


@FAULTS.add(DOWN, only="streamed")
async def an_error_frame_first(call: Call) -> None:
    call.stream(error("The server had an error while processing your request"))


@FAULTS.add(BUSY, only="streamed")
async def a_rate_limit_frame_first(call: Call) -> None:
    call.stream(error("Rate limit reached", "tokens", "rate_limit_exceeded"))


@FAULTS.add(DOWN, only="streamed")
async def a_flat_error_frame_first(call: Call) -> None:
    call.stream({**FLAT, "code": 500})


@FAULTS.add(BUSY, only="streamed")
async def a_full_queue_told_in_a_frame(call: Call) -> None:
    call.stream({"error": {**FLAT, "message": "The request queue is full.", "code": 429}})


@FAULTS.add(DOWN, only="streamed")
async def an_error_frame_after_the_role(call: Call) -> None:
    call.begin()
    call.event(opening(call))
    await call.drained()
    call.piece(events(error("Lost the worker")) + DONE)
    call.finish()


@FAULTS.add(BUSY, only="streamed")
async def an_error_frame_after_processing_comments(call: Call) -> None:
    call.begin()
    call.piece(b": OPENROUTER PROCESSING\n\n")
    await call.drained()
    call.event(error("Provider returned error", "rate_limit_error"))
    call.finish()


@FAULTS.add(ODD, only="streamed")
async def the_role_and_then_a_reset(call: Call) -> None:
    call.begin()
    call.event(opening(call))
    await call.drained()
    call.reset()


@FAULTS.add(ODD, only="streamed")
async def the_role_and_then_the_end(call: Call) -> None:
    call.begin()
    call.event(opening(call))
    call.finish()


@FAULTS.add(ODD, only="streamed")
async def the_role_and_then_done(call: Call) -> None:
    call.stream(opening(call))


@FAULTS.add(LATE, late=True, only="streamed")
async def the_role_and_then_silence(call: Call) -> None:
    call.begin()
    call.event(opening(call))
    await call.gone.wait()


@FAULTS.add(LATE, late=True, only="streamed")
async def pings_without_end(call: Call) -> None:
    call.begin()
    while not call.gone.is_set():
        call.piece(b": ping\n\n")
        await _a_moment(call)


@FAULTS.add(LATE, late=True, only="streamed")
async def empty_chunks_without_end(call: Call) -> None:
    call.begin()
    while not call.gone.is_set():
        call.event(part(call, ""))
        await _a_moment(call)


@FAULTS.add(ODD, only="streamed")
async def nothing_but_done(call: Call) -> None:
    call.stream()


@FAULTS.add(ODD, only="streamed")
async def nothing_but_usage(call: Call) -> None:
    call.stream(end(call)[1])


@FAULTS.add(ODD, only="streamed")
async def a_line_that_is_no_json(call: Call) -> None:
    call.begin()
    call.piece(b"data: Internal Server Error\n\n" + DONE)
    call.finish()


@FAULTS.add(ODD, only="streamed")
async def json_cut_in_an_event(call: Call) -> None:
    call.begin()
    call.piece(event(parts(call)[1])[:-20] + b"\n\n" + DONE)
    call.finish()


@FAULTS.add(ODD, only="streamed")
async def what_is_no_utf8(call: Call) -> None:
    call.begin()
    call.piece(event(part(call, "?")).replace(b"?", b"\xff\xfe") + DONE)
    call.finish()


@FAULTS.add(ODD, only="streamed")
async def binary_noise(call: Call) -> None:
    call.begin()
    call.piece(bytes(range(256)) * 20)
    call.finish()


@FAULTS.add(ODD, only="streamed")
async def chunks_of_another_shape(call: Call) -> None:
    call.stream({"choices": "none"}, {"output": "Answer"})


@FAULTS.add(ODD, only="streamed")
async def given_up_at_once(call: Call) -> None:
    call.stream(opening(call), part(call, None, "abort"))


# After the first words


async def half(call: Call) -> None:
    """Send half of the answer, and go on when it has likely been read: what a caller has not seen is not lost."""
    if streams(call):
        call.begin()
        call.piece(events(*parts(call)[:5]))
        await _a_moment(call)
        return
    body = json.dumps(whole(call)).encode()
    call.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body))
    call.write(body[: len(body) // 2])


@FAULTS.add(ODD, after=True)
async def half_an_answer_and_then_a_reset(call: Call) -> None:
    await half(call)
    call.reset()


@FAULTS.add(ODD, after=True)
async def half_an_answer_and_then_the_end(call: Call) -> None:
    await half(call)
    if streams(call):
        call.finish()
    call.close()


@FAULTS.add(LATE, after=True, late=True)
async def half_an_answer_and_then_silence(call: Call) -> None:
    await half(call)
    await call.gone.wait()


@FAULTS.add(LATE, after=True, late=True, only="streamed")
async def half_an_answer_and_then_pings(call: Call) -> None:
    await half(call)
    while not call.gone.is_set():
        call.piece(b": ping\n\n")
        await _a_moment(call)


@FAULTS.add(ODD, after=True, only="streamed")
async def half_an_answer_and_then_done(call: Call) -> None:
    await half(call)
    call.piece(DONE)
    call.finish()


@FAULTS.add(ODD, after=True, only="spoken")
async def an_answer_that_does_not_say_why_it_ended(call: Call) -> None:
    await _broken_off(call, None)


@FAULTS.add(ODD, after=True, only="spoken")
async def an_answer_that_ended_in_an_error(call: Call) -> None:
    await _broken_off(call, "error")


@FAULTS.add(ODD, after=True, only="spoken")
async def an_answer_that_ran_out_of_resources(call: Call) -> None:
    await _broken_off(call, "insufficient_system_resource")


@FAULTS.add(ODD, after=True, only="streamed")
async def too_long_and_then_the_end_without_done(call: Call) -> None:
    await half(call)
    call.piece(events(*end(call, "length")))
    call.finish()


@FAULTS.add(DOWN, after=True, only="streamed")
async def half_an_answer_and_then_an_error_frame(call: Call) -> None:
    await _then(call, events(error("Lost the worker")))


@FAULTS.add(DOWN, after=True, only="streamed")
async def half_an_answer_and_then_an_error_frame_and_done(call: Call) -> None:
    await _then(call, events(error("Lost the worker")) + DONE)


@FAULTS.add(DOWN, after=True, only="streamed")
async def half_an_answer_and_then_a_flat_error_frame(call: Call) -> None:
    await _then(call, events({**FLAT, "code": 500}))


@FAULTS.add(ODD, after=True, only="streamed")
async def half_an_answer_and_then_no_json(call: Call) -> None:
    await _then(call, b"data: upstream connect error\n\n" + DONE)


@FAULTS.add(ODD, after=True, only="streamed")
async def half_an_answer_and_then_json_cut_at_a_brace(call: Call) -> None:
    cut = json.dumps(part(call, " word")).encode()
    await _then(call, b"data: " + cut[: cut.index(b"}") + 1] + b"\n\n" + events(*end(call)) + DONE)


@FAULTS.add(ODD, after=True, only="streamed")
async def half_an_answer_and_then_no_utf8(call: Call) -> None:
    await _then(call, event(part(call, "?")).replace(b"?", b"\xff\xfe") + events(*end(call)) + DONE)


@FAULTS.add(ODD, after=True, only="streamed")
async def half_an_answer_and_then_chunks_that_are_none(call: Call) -> None:
    await half(call)
    call.write(b"what?\r\n")
    await call.gone.wait()


# What is no fault


@FAULTS.add(NONE, only="streamed")
async def a_stream_with_comments_and_odd_framing(call: Call) -> None:
    stream = b": hello\r\n\r\n" + events(*parts(call), *end(call)).replace(b"data: ", b"event: x\r\nid: 7\r\ndata:")
    call.begin()
    call.piece(stream.replace(b"\n\n", b"\r\n\r\n") + b"data: [DONE]")
    call.finish()


@FAULTS.add(NONE, only="streamed")
async def a_stream_byte_by_byte(call: Call) -> None:
    call.begin()
    for byte in events(*parts(call), *end(call)) + DONE:
        call.piece(bytes([byte]))
    call.finish()


async def _broken_off(call: Call, reason: str | None) -> None:
    if not streams(call):
        call.answer(whole(call, reason))
        return
    await half(call)
    call.piece(events(*end(call, reason)) + DONE)
    call.finish()


async def _then(call: Call, rest: bytes) -> None:
    await half(call)
    call.piece(rest)
    call.finish()


async def _a_moment(call: Call) -> None:
    """Go on 20 ms later, or at once when nobody listens any more."""
    try:
        async with asyncio.timeout(0.02):
            await call.gone.wait()
    except TimeoutError:
        pass
