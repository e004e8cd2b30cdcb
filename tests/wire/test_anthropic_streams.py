"""What comes of Anthropic's events: chunks, however the bytes are cut; and its errors, wherever they stand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from penstock.core.fold import fold
from penstock.core.json import parse
from penstock.core.ports import Call as Asked
from penstock.errors import UpstreamProtocolError
from penstock.providers import anthropic
from penstock.schema.model import Deployment
from penstock.schema.request import CHAT
from tests.wire import gateway as gateways
from tests.wire.pieces import Pieces
from tests.wire.test_anthropic import ANSWER, SONNET, provider
from tests.wire.upstream import Call, Script, Upstream, answering

Body = dict[str, Any]


def framed(*events: Body) -> bytes:
    """Events as Anthropic writes them, with names and with padding inside of their JSON."""
    return b"".join(
        f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)[:-1]}   }}\n\n".encode()
        for event in events
    )


def start(index: int, **block: Any) -> Body:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, kind: str, **said: Any) -> Body:
    return {"type": "content_block_delta", "index": index, "delta": {"type": f"{kind}_delta", **said}}


def stop(index: int) -> Body:
    return {"type": "content_block_stop", "index": index}


def ending(reason: str | None, **usage: Any) -> Body:
    return {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage}


BEGIN = {
    "type": "message_start",
    "message": {
        **{"id": "msg_1", "type": "message", "role": "assistant", "model": SONNET, "content": [], "stop_reason": None},
        "usage": {
            "input_tokens": 5,
            "cache_read_input_tokens": 20,
            "cache_creation_input_tokens": 3,
            "output_tokens": 1,
        },
    },
}
PING = {"type": "ping"}
END = {"type": "message_stop"}
STREAM = (
    BEGIN,
    start(0, type="thinking", thinking="", signature=""),
    PING,
    delta(0, "thinking", thinking="Is it "),
    delta(0, "thinking", thinking="cold? 🤔"),
    delta(0, "signature", signature="c2ln"),
    stop(0),
    start(1, type="redacted_thinking", data="ZGF0YQ=="),
    stop(1),
    start(2, type="text", text=""),
    delta(2, "text", text="Grüße, "),
    delta(2, "text", text="世界!"),
    delta(2, "citations", citation={"type": "char_location"}),
    stop(2),
    {"type": "a_kind_of_tomorrow", "anything": [1]},
    start(3, type="server_tool_use", id="srvtoolu_1", name="web_search", input={}),
    delta(3, "input_json", partial_json='{"query": "cold"}'),
    stop(3),
    start(4, type="web_search_tool_result", tool_use_id="srvtoolu_1", content=[]),
    stop(4),
    start(5, type="tool_use", id="toolu_1", name="weather", input={}),
    delta(5, "input_json", partial_json=""),
    delta(5, "input_json", partial_json='{"city":'),
    delta(5, "input_json", partial_json=' "Oslo"}'),
    stop(5),
    start(6, type="tool_use", id="toolu_2", name="time", input={}),
    stop(6),
    ending("tool_use", input_tokens=None, output_tokens=17, output_tokens_details={"thinking_tokens": 6}),
    END,
)
BYTES = framed(*STREAM)
USAGE = {
    "prompt_tokens": 28,
    "completion_tokens": 17,
    "total_tokens": 45,
    "prompt_tokens_details": {"cached_tokens": 20, "cache_creation_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 6},
}
FOLDED = {
    "role": "assistant",
    "content": "Grüße, 世界!",
    "reasoning_content": "Is it cold? 🤔",
    "thinking_blocks": [
        {"index": 0, "type": "thinking", "thinking": "Is it cold? 🤔", "signature": "c2ln"},
        {"index": 1, "type": "redacted_thinking", "data": "ZGF0YQ=="},
    ],
    "tool_calls": [
        {"type": "function", "id": "toolu_1", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
        {"type": "function", "id": "toolu_2", "function": {"name": "time", "arguments": "{}"}},
    ],
}


async def batches(*pieces: bytes) -> AsyncIterator[list[bytes]]:
    place = Deployment("first/m", "m", "first", "anthropic", SONNET, "http://x")
    call = Asked(CHAT, {"model": "m", "messages": [{"role": "user", "content": "x"}]}, 1e12, "req_1")
    async for batch in anthropic.connect(place, Pieces(*pieces)).stream(call):  # type: ignore[arg-type]
        yield batch


async def test_the_chunks_of_a_rich_stream_fold_to_what_it_says() -> None:
    document = await fold(batches(BYTES), CHAT)  # type: ignore[arg-type]
    (choice,) = document["choices"]
    assert choice == {"index": 0, "message": FOLDED, "logprobs": None, "finish_reason": "tool_calls"}
    assert document["usage"] == USAGE
    assert (document["id"], document["object"], document["model"]) == ("msg_1", "chat.completion", SONNET)


async def test_the_role_comes_first_and_the_usage_last() -> None:
    payloads = [parse(payload) async for batch in batches(BYTES) for payload in batch]
    assert payloads[0]["choices"][0]["delta"] == {"role": "assistant", "content": None}
    assert payloads[-1]["choices"] == []
    assert payloads[-1]["usage"] == USAGE
    assert payloads[-2]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "tool_calls"}
    assert [payload["choices"][0]["finish_reason"] for payload in payloads[:-2]] == [None] * (len(payloads) - 2)
    assert len({payload["created"] for payload in payloads}) == 1


async def test_the_bytes_may_be_cut_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.providers._anthropic_answer.time.time", lambda: 1_800_000_000)
    whole = [payload async for batch in batches(BYTES) for payload in batch]
    for at in range(len(BYTES)):
        assert [payload async for batch in batches(BYTES[:at], BYTES[at:]) for payload in batch] == whole, at


async def test_a_stream_that_ends_before_its_last_event_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.providers._anthropic_answer.time.time", lambda: 1_800_000_000)
    whole = [payload async for batch in batches(BYTES) for payload in batch]
    for at in range(len(BYTES)):
        said: list[bytes] = []
        with pytest.raises(UpstreamProtocolError):  # noqa: PT012 - what came before it counts too
            async for batch in batches(BYTES[:at]):
                said += batch
        assert said == whole[: len(said)], at


async def test_a_stream_of_single_bytes() -> None:
    bare = (bytes([byte]) for byte in BYTES)
    assert (await fold(batches(*bare), CHAT))["choices"][0]["message"] == FOLDED  # type: ignore[arg-type]


FINISHES = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
    "a_reason_of_tomorrow": "stop",
}


@pytest.mark.parametrize("reason", FINISHES)
async def test_why_an_answer_ended(tmp_path: Path, upstream: Upstream, reason: str) -> None:
    details = (
        {"type": "refusal", "category": None, "explanation": "That is not for me."} if reason == "refusal" else None
    )
    end = {**ending(reason, output_tokens=0)}
    end["delta"]["stop_details"] = details
    async with gateways.serve(tmp_path, provider(upstream)) as gateway:
        upstream.script = answering({**ANSWER, "content": [], "stop_reason": reason, "stop_details": details})
        plain = (await gateway.plain()).json["choices"][0]
        upstream.script = answering(framed(BEGIN, end, END), kind="text/event-stream")
        streamed = (await gateway.stream()).events
    assert plain["finish_reason"] == streamed[-1]["choices"][0]["finish_reason"] == FINISHES[reason]
    assert plain["message"]["content"] == streamed[-1]["choices"][0]["delta"]["content"] == ""
    if details:
        assert plain["message"]["refusal"] == streamed[-1]["choices"][0]["delta"]["refusal"] == "That is not for me."


# Errors


def error(kind: str, message: str) -> Body:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_x"}


BUSY = error("overloaded_error", "Overloaded")
LONG = "prompt is too long: 209000 tokens > 200000 maximum"
POOR = "Your credit balance is too low to access the Anthropic API."
ERRORS: dict[str, tuple[Body, int, int, str, str]] = {
    "a wrong field": (
        error("invalid_request_error", "max_tokens: 9 > 8"),
        400,
        400,
        "invalid_request",
        "max_tokens: 9",
    ),
    "an overflow": (error("invalid_request_error", LONG), 400, 400, "context_length_exceeded", LONG),
    "too many bytes": (error("request_too_large", "Too large"), 413, 413, "invalid_request", "Too large"),
    "a wrong key": (
        error("authentication_error", "invalid x-api-key"),
        *(401, 502, "upstream_unavailable", "first does not accept our credential"),
    ),
    "a key without rights": (
        error("permission_error", "no"),
        *(403, 502, "upstream_unavailable", "first does not accept our credential"),
    ),
    "no credit": (error("invalid_request_error", POOR), 400, 502, "upstream_unavailable", "first has no credit left"),
    "a bill": (error("billing_error", "Pay."), 402, 502, "upstream_unavailable", "first has no credit left"),
    "no such model": (error("not_found_error", "model: x"), 404, 502, "upstream_unavailable", "first: model: x"),
    "a rate limit": (error("rate_limit_error", "Slow down"), 429, 503, "upstream_busy", "first: Slow down"),
    "no time": (error("timeout_error", "Too slow"), 504, 504, "upstream_timeout", "first: Too slow"),
    "a fault of its own": (error("api_error", "Oops"), 500, 502, "upstream_unavailable", "first: Oops"),
    "overload": (BUSY, 529, 503, "upstream_busy", "first: Overloaded"),
}


def after_200(told: Body) -> Script:
    """The error where a stream's first event should be, or in place of the message."""

    async def script(call: Call) -> None:
        if call.json.get("stream"):
            call.answer(framed(told), kind="text/event-stream")
        else:
            call.answer(told)

    return script


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
@pytest.mark.parametrize("case", ERRORS)
async def test_an_error_means_the_same_with_its_status_and_after_a_200(
    tmp_path: Path, upstream: Upstream, case: str, stream: bool
) -> None:
    told, theirs, ours, code, message = ERRORS[case]
    async with gateways.serve(tmp_path, provider(upstream)) as gateway:
        for script in (answering(told, theirs), after_200(told)):
            upstream.script = script
            reply = await gateway.plain(stream=stream)
            assert (reply.status, reply.error["code"]) == (ours, code), reply.body
            assert reply.error["message"].startswith(message)


async def test_a_limits_retry_after_is_passed_on(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script = answering(error("rate_limit_error", "Slow down"), 429, retry_after="17")
    async with gateways.serve(tmp_path, provider(upstream)) as gateway:
        reply = await gateway.plain()
    assert (reply.status, reply.headers["retry-after"]) == (503, "17")


def cutting(*pieces: bytes, end: str = "finish") -> Script:
    """A stream of these pieces, ended as it is told."""

    async def script(call: Call) -> None:
        call.begin()
        for piece in pieces:
            call.piece(piece)
            await asyncio.sleep(0)
        getattr(call, end)()

    return script


BEFORE = framed(BEGIN, PING)
MIDDLE = framed(*STREAM[:11])
PINGS = framed(PING, PING)
NO_ANSWERS: dict[str, Script] = {
    "an error before the first block": cutting(BEFORE + framed(BUSY)),
    "an end before the first block": cutting(BEFORE),
    "a hang-up before the first block": cutting(BEFORE, end="close"),
    "an error in one piece with the first words": cutting(MIDDLE + framed(BUSY)),
    "no JSON": cutting(b"event: message_start\ndata: {nonsense\n\n"),
    "no object": cutting(b"data: [1]\n\n"),
    "a block without an index": cutting(BEFORE + framed({"type": "content_block_start", "content_block": {}})),
    "another kind of answer": answering(b"<html>", kind="text/html"),
    "half a message": answering(b'{"type": "message", "content"'),
    "a message without its content": answering({"type": "message", "id": "msg_1"}),
    "a message of the wrong shape": answering({**ANSWER, "content": 5}),
    "a message that does not say why it ended": answering({**ANSWER, "stop_reason": None}),
}


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
@pytest.mark.parametrize("case", NO_ANSWERS)
async def test_what_is_no_answer_moves_the_request_on(
    tmp_path: Path, upstream: Upstream, second: Upstream, case: str, stream: bool
) -> None:
    upstream.script = NO_ANSWERS[case]
    good = framed(BEGIN, start(0, type="text", text="Hi!"), stop(0), ending("end_turn", output_tokens=2), END)
    second.script = answering(good, kind="text/event-stream") if stream else answering(ANSWER)
    rows = provider(upstream), provider(second, name="second", priority=2)
    async with gateways.serve(tmp_path, *rows) as gateway:
        reply = await (gateway.stream() if stream else gateway.plain())
    assert reply.status == 200
    assert len(second.calls) == 1
    assert (reply.text if stream else reply.json["choices"][0]["message"]["content"]) == "Hi!"


# What comes after the first words, how the stream ends, and what the caller is told.
BROKEN: dict[str, tuple[bytes, str, str]] = {
    "an error": (framed(BUSY), "finish", "upstream_busy"),
    "an end": (PINGS, "finish", "upstream_protocol_error"),
    "an end without message_stop": (framed(ending("end_turn")), "finish", "upstream_protocol_error"),
    "a stop without a reason": (framed(ending(None), END), "finish", "upstream_protocol_error"),
    "a hang-up": (PINGS, "close", "upstream_protocol_error"),
    "a reset": (PINGS, "reset", "upstream_protocol_error"),
}


@pytest.mark.parametrize("case", BROKEN)
async def test_a_stream_that_breaks_off_ends_with_an_error_event(tmp_path: Path, upstream: Upstream, case: str) -> None:
    rest, end, code = BROKEN[case]
    go = asyncio.Event()

    async def script(call: Call) -> None:
        call.begin()
        call.piece(MIDDLE)
        await go.wait()
        call.piece(rest)
        getattr(call, end)()

    upstream.script = script
    async with gateways.serve(tmp_path, provider(upstream)) as gateway, gateway.open({"stream": True}) as live:
        await live.until(lambda body: "Grüße".encode() in body)
        go.set()
        await live.rest()
    assert live.failed_with()["code"] == code
    assert live.text == "Grüße, "
