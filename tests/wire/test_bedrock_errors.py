"""What Bedrock's errors mean, wherever they stand, and what is made of answers that are none."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from botocore.exceptions import EventStreamError

from tests.wire import gateway as gateways
from tests.wire.amazon import FRAMES, event, exception, frame, framed, parsed_stream
from tests.wire.bedrock_events import BEGIN, BRIEF, delta, ends, metadata, stop
from tests.wire.test_bedrock import ANSWER, provider
from tests.wire.upstream import Call, Script, Upstream, answering

pytestmark = pytest.mark.usefixtures("aws")

LONG = "The model returned the following errors: Input is too long for requested model."
ERRORS: dict[str, tuple[str, int, str, int, str, str]] = {
    "a wrong field": ("validationException", 400, "The value is bad.", 400, "invalid_request", "The value is bad."),
    "an overflow": ("validationException", 400, LONG, 400, "context_length_exceeded", LONG),
    "no rights": (
        *("accessDeniedException", 403, "You don't have access to the model.", 502),
        *("upstream_unavailable", "first does not accept our credential"),
    ),
    "no such model": ("resourceNotFoundException", 404, "No.", 502, "upstream_unavailable", "first: No."),
    "no time": ("modelTimeoutException", 408, "Too slow.", 504, "upstream_timeout", "first: Too slow."),
    "a fault of the model": ("modelStreamErrorException", 424, "Oops.", 502, "upstream_unavailable", "first: Oops."),
    "a rate limit": (
        "throttlingException",
        429,
        "Too many tokens, please wait.",
        503,
        "upstream_busy",
        "first: Too many",
    ),
    "a model that is not ready": ("modelNotReadyException", 429, "Wait.", 503, "upstream_busy", "first: Wait."),
    "a fault of its own": ("internalServerException", 500, "Oops.", 502, "upstream_unavailable", "first: Oops."),
    "no service": ("serviceUnavailableException", 503, "Full.", 502, "upstream_unavailable", "first: Full."),
    "what is new": ("tomorrowsException", 500, "Oops.", 502, "upstream_unavailable", "first: Oops."),
}


@pytest.mark.parametrize("case", ERRORS)
async def test_an_error_means_the_same_with_its_status_and_in_a_stream(
    tmp_path: Path, upstream: Upstream, case: str
) -> None:
    kind, theirs, message, ours, code, told = ERRORS[case]
    with pytest.raises(EventStreamError):
        parsed_stream(framed([BEGIN]) + exception(kind, message))
    name = kind[0].upper() + kind[1:]
    scripts = [
        (answering({"message": message}, theirs, x_amzn_errortype=name), False),
        (answering({"Message": message}, theirs, x_amzn_errortype=name), True),
        (answering(framed([BEGIN]) + exception(kind, message), kind=FRAMES), True),
    ]
    async with gateways.serve(tmp_path, provider(upstream)) as gateway:
        for script, stream in scripts:
            upstream.script = script
            reply = await gateway.plain(stream=stream)
            assert (reply.status, reply.error["code"]) == (ours, code), reply.body
            assert reply.error["message"].startswith(told)


async def test_a_limits_retry_after_is_passed_on(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script = answering({"message": "Slow down"}, 429, retry_after="17")
    async with gateways.serve(tmp_path, provider(upstream)) as gateway:
        reply = await gateway.plain()
    assert (reply.status, reply.headers["retry-after"]) == (503, "17")


def cutting(*pieces: bytes, end: str = "finish") -> Script:
    """A stream of these pieces, ended as it is told."""

    async def script(call: Call) -> None:
        call.begin(kind=FRAMES)
        for piece in pieces:
            call.piece(piece)
            await asyncio.sleep(0)
        getattr(call, end)()

    return script


BUSY = exception("throttlingException", "Too many requests")
BEFORE = framed([BEGIN])
MIDDLE = framed([BEGIN, delta(0, text="Grüße, ")])
ERROR = frame(b"", message_type="error", error_code="InternalError", error_message="Oops.")
NO_ANSWERS: dict[str, Script] = {
    "an exception before the first words": cutting(BEFORE + BUSY),
    "an error before the first words": cutting(BEFORE + ERROR),
    "an end before the first words": cutting(BEFORE),
    "a hang-up before the first words": cutting(BEFORE, end="close"),
    "an exception in one piece with the first words": cutting(MIDDLE + BUSY),
    "no JSON": cutting(frame(b"{nonsense", event_type="contentBlockDelta", message_type="event")),
    "no object": cutting(frame(b"[1]", event_type="contentBlockDelta", message_type="event")),
    "no frames": cutting(b"event: message_start\ndata: {}\n\n"),
    "a delta without an index": cutting(event("contentBlockDelta", {"delta": {"text": "x"}})),
    "usage without numbers": cutting(framed([BEGIN, ends("end_turn"), ("metadata", {"usage": {}})])),
    "a malformed answer": cutting(framed([BEGIN, ends("malformed_model_output"), metadata()])),
    "usage before the end": cutting(framed([BEGIN, metadata()])),
    "another kind of answer": answering(b"<html>", kind="text/html"),
    "half an answer": answering(b'{"output": {"message"'),
    "an answer without its content": answering({"output": {}, "stopReason": "end_turn", "usage": ANSWER["usage"]}),
    "an answer of the wrong shape": answering({**ANSWER, "output": {"message": {"content": 5}}}),
    "an answer that does not say why it ended": answering({**ANSWER, "stopReason": None}),
    "an answer that is malformed": answering({**ANSWER, "stopReason": "malformed_tool_use"}),
}


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
@pytest.mark.parametrize("case", NO_ANSWERS)
async def test_what_is_no_answer_moves_the_request_on(
    tmp_path: Path, upstream: Upstream, second: Upstream, case: str, stream: bool
) -> None:
    upstream.script = NO_ANSWERS[case]
    second.script = answering(framed(BRIEF), kind=FRAMES) if stream else answering(ANSWER)
    rows = provider(upstream), provider(second, name="second", priority=2)
    async with gateways.serve(tmp_path, *rows) as gateway:
        reply = await (gateway.stream() if stream else gateway.plain())
    assert reply.status == 200
    assert len(second.calls) == 1
    assert (reply.text if stream else reply.json["choices"][0]["message"]["content"]) == "Hi!"


# What comes after the first words, how the stream ends, and what the caller is told.
BROKEN: dict[str, tuple[bytes, str, str]] = {
    "an exception": (BUSY, "finish", "upstream_busy"),
    "an error": (ERROR, "finish", "upstream_unavailable"),
    "an end": (b"", "finish", "upstream_protocol_error"),
    "an end without metadata": (framed([stop(0), ends("end_turn")]), "finish", "upstream_protocol_error"),
    "a malformed answer": (framed([ends("malformed_tool_use"), metadata()]), "finish", "upstream_protocol_error"),
    "half a frame": (BUSY[:20], "finish", "upstream_protocol_error"),
    "a hang-up": (b"", "close", "upstream_protocol_error"),
    "a reset": (b"", "reset", "upstream_protocol_error"),
}


@pytest.mark.parametrize("case", BROKEN)
async def test_a_stream_that_breaks_off_ends_with_an_error_event(tmp_path: Path, upstream: Upstream, case: str) -> None:
    rest, end, code = BROKEN[case]
    go = asyncio.Event()

    async def script(call: Call) -> None:
        call.begin(kind=FRAMES)
        call.piece(MIDDLE)
        await go.wait()
        if rest:
            call.piece(rest)
        getattr(call, end)()

    upstream.script = script
    async with gateways.serve(tmp_path, provider(upstream)) as gateway, gateway.open({"stream": True}) as live:
        await live.until(lambda body: "Grüße".encode() in body)
        go.set()
        await live.rest()
    assert live.failed_with()["code"] == code
    assert live.text == "Grüße, "
