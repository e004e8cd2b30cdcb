"""What comes of Bedrock's frames: chunks, however the bytes are cut."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncGenerator, AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest

from penstock.core.fold import fold
from penstock.core.json import parse
from penstock.core.ports import Call as Asked
from penstock.errors import UpstreamProtocolError
from penstock.providers import bedrock
from penstock.schema.model import Deployment
from penstock.schema.request import CHAT
from penstock.schema.secret import Secret
from tests.wire import gateway as gateways
from tests.wire.amazon import FRAMES, framed
from tests.wire.bedrock_events import BEGIN, BRIEF, BYTES, FOLDED, PLAIN, USAGE, ends, metadata
from tests.wire.bedrock_requests import BOTH, CLAUDE
from tests.wire.pieces import Pieces
from tests.wire.test_bedrock import ANSWER, provider
from tests.wire.upstream import Call, Upstream, answering

pytestmark = pytest.mark.usefixtures("aws")


async def batches(*pieces: bytes) -> AsyncIterator[list[bytes]]:
    place = Deployment("first/m", "m", "first", "bedrock", CLAUDE, "http://x", Secret("bedrock-api-key"))
    call = Asked(CHAT, {"model": "m", "messages": [{"role": "user", "content": "x"}]}, 1e12, "req_1")
    async for batch in bedrock.connect(place, Pieces(*pieces, kind=FRAMES)).stream(call):  # type: ignore[arg-type]
        yield batch


async def test_the_chunks_of_a_rich_stream_fold_to_what_it_says() -> None:
    document = await fold(batches(BYTES), CHAT)  # type: ignore[arg-type]
    (choice,) = document["choices"]
    assert choice == {"index": 0, "message": FOLDED, "logprobs": None, "finish_reason": "tool_calls"}
    assert document["usage"] == USAGE
    assert (document["id"], document["object"], document["model"]) == ("chatcmpl-req_1", "chat.completion", CLAUDE)


async def test_a_whole_answer_says_what_its_stream_says() -> None:
    place = Deployment("first/m", "m", "first", "bedrock", CLAUDE, "http://x", Secret("bedrock-api-key"))
    call = Asked(CHAT, {"model": "m", "messages": [{"role": "user", "content": "x"}]}, 1e12, "req_1")
    pieces = Pieces(json.dumps(PLAIN).encode(), kind="application/json")
    _, document = await bedrock.connect(place, pieces).complete(call)  # type: ignore[arg-type]
    (choice,) = document["choices"]
    calls = [{**call, "function": {**call["function"]}} for call in FOLDED["tool_calls"]]  # type: ignore[dict-item]
    calls[0]["function"]["arguments"] = '{"city":"Oslo"}'
    assert choice["message"] == {**FOLDED, "tool_calls": calls}
    assert document["usage"] == USAGE


async def test_the_role_comes_first_and_the_usage_last() -> None:
    chunks = [parse(payload) async for batch in batches(BYTES) for payload in batch]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": None}
    assert (chunks[-1]["choices"], chunks[-1]["usage"]) == ([], USAGE)


async def test_a_stream_that_ends_before_its_last_event_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.providers._bedrock_answer.time.time", lambda: 1_800_000_000)
    all_of_it = [payload async for batch in batches(BYTES) for payload in batch]
    for at in range(len(BYTES)):
        said: list[bytes] = []
        with pytest.raises(UpstreamProtocolError):  # noqa: PT012 - what came before it counts too
            async for batch in batches(BYTES[:at]):
                said += batch
        assert said == all_of_it[: len(said)], at


async def test_a_stream_cut_into_any_pieces_is_the_same_answer() -> None:
    chance = random.Random(7)
    for _ in range(50):
        edges = sorted({0, len(BYTES), *(chance.randrange(len(BYTES)) for _ in range(chance.randrange(60)))})
        pieces = [BYTES[at:to] for at, to in pairwise(edges)]
        assert (await fold(batches(*pieces), CHAT))["choices"][0]["message"] == FOLDED  # type: ignore[arg-type]
    bare = (bytes([byte]) for byte in BYTES)
    assert (await fold(batches(*bare), CHAT))["choices"][0]["message"] == FOLDED  # type: ignore[arg-type]


async def test_a_damaged_stream_gives_what_came_before_and_then_fails() -> None:
    at = BYTES.index("世界".encode())
    damaged = BYTES[:at] + b"x" + BYTES[at + 1 :]
    said: list[bytes] = []
    with pytest.raises(UpstreamProtocolError, match="checksum"):  # noqa: PT012 - what came before it counts too
        async for batch in batches(damaged[:at], damaged[at:]):
            said += batch
    assert b"Gr\xc3\xbc\xc3\x9fe, " in b"".join(said)


UNSTREAMED = {
    "with tools": "This model doesn't support tool use in streaming mode.",
    "at all": "The model is unsupported for streaming.",
}


@pytest.mark.parametrize("case", UNSTREAMED)
async def test_a_model_that_cannot_be_streamed_answers_in_one_piece(
    tmp_path: Path, upstream: Upstream, case: str
) -> None:
    async def script(call: Call) -> None:
        if call.target.endswith("/converse-stream"):
            call.answer({"message": UNSTREAMED[case]}, 400, x_amzn_errortype="ValidationException")
        else:
            call.answer(PLAIN)

    upstream.script = script
    async with gateways.serve(tmp_path, provider(upstream)) as gateway:
        replies = [await gateway.stream(**BOTH, stream_options={"include_usage": True}) for _ in range(2)]
        plain = (await gateway.plain(**BOTH)).json
    for reply in replies:
        assert reply.ended_well()
        document = await fold(_once(reply.payloads[:-1]), CHAT)
        assert document["choices"] == plain["choices"]
        assert document["usage"] == plain["usage"]
    asked = [call.target.rpartition("/")[2] for call in upstream.calls]
    assert asked == ["converse-stream", "converse", "converse", "converse"], "it is asked for a stream once"


async def _once(batch: list[bytes]) -> AsyncGenerator[list[bytes], None]:
    yield batch


async def test_what_cannot_be_streamed_with_tools_is_streamed_without(tmp_path: Path, upstream: Upstream) -> None:
    async def script(call: Call) -> None:
        if not call.target.endswith("/converse-stream"):
            call.answer(ANSWER)
        elif "toolConfig" in call.json:
            call.answer({"message": UNSTREAMED["with tools"]}, 400)
        else:
            call.answer(framed(BRIEF), kind=FRAMES)

    upstream.script = script
    async with gateways.serve(tmp_path, provider(upstream)) as gateway:
        replies = [await gateway.stream(**BOTH), await gateway.stream()]
    assert [reply.text for reply in replies] == ["Hi!", "Hi!"]
    assert len(replies[1].events) > len(replies[0].events)


FINISHES = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
    "a_reason_of_tomorrow": "stop",
}


@pytest.mark.parametrize("reason", FINISHES)
async def test_why_an_answer_ended(tmp_path: Path, upstream: Upstream, reason: str) -> None:
    async with gateways.serve(tmp_path, provider(upstream)) as gateway:
        message = {"role": "assistant", "content": []}
        upstream.script = answering({**ANSWER, "output": {"message": message}, "stopReason": reason})
        plain = (await gateway.plain()).json["choices"][0]
        upstream.script = answering(framed([BEGIN, ends(reason), metadata()]), kind=FRAMES)
        told = (await gateway.stream()).events
    assert plain["finish_reason"] == told[-1]["choices"][0]["finish_reason"] == FINISHES[reason]
    assert plain["message"]["content"] == told[-1]["choices"][0]["delta"]["content"] == ""
