"""Laws of providers: whatever wire a plug speaks, the house sees the same behaviour."""

from __future__ import annotations

import asyncio
import base64
import copy
import struct
from typing import Any

import pytest

from penstock import plugs
from penstock.core.json import parse
from penstock.core.sse import DONE
from penstock.errors import (
    PenstockError,
    RateLimited,
    UpstreamBusy,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from penstock.outbound import HttpClient
from penstock.schema.model import Deployment
from penstock.schema.request import CHAT, COMPLETIONS, EMBEDDINGS
from tests.laws.providers.conftest import Provider, engine_of
from tests.ports import free_port

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}

BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "a chat": (CHAT, {}),
    "a long chat": (CHAT, {"messages": [{"role": "user", "content": "Grüße, 世界 🌍! " * 500}]}),
    "several choices": (CHAT, {"n": 3}),
    "a tool": (CHAT, {"tools": [WEATHER], "tool_choice": "required"}),
    "a tool, twice": (CHAT, {"tools": [WEATHER], "tool_choice": "required", "n": 2}),
    "a schema": (CHAT, {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}}),
    "logprobs": (CHAT, {"logprobs": True, "top_logprobs": 1}),
    "a limit": (CHAT, {"max_tokens": 2}),
    "a text": (COMPLETIONS, {"prompt": "Once upon a time"}),
    "two texts": (COMPLETIONS, {"prompt": "Once upon a time", "n": 2}),
}


@pytest.mark.parametrize("plug", plugs.names("providers"))
def test_connecting_does_nothing_yet(plug: str) -> None:
    for kind in engine_of(plug).KINDS:
        nowhere = Deployment("x/y", "y", "x", kind, "y", "http://127.0.0.1:9/v1")
        assert plugs.load("providers", plug).connect(nowhere, HttpClient())


async def test_a_stream_folds_to_the_plain_answer(provider: Provider, case: str) -> None:
    endpoint, body = BODIES[case]
    plain, folded = await provider.complete(body, endpoint), await provider.folded(body, endpoint)
    for document in (plain, folded):
        document.pop("id")
        document.pop("created")
    assert folded == plain


async def test_an_answer_says_what_it_took(provider: Provider, case: str) -> None:
    endpoint, body = BODIES[case]
    usage = (await provider.complete(body, endpoint))["usage"]
    assert usage["prompt_tokens"] > 0
    assert usage["completion_tokens"] > 0
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


async def test_a_stream_is_batches_of_json_objects_without_its_mark_of_the_end(provider: Provider) -> None:
    payloads = await provider.payloads({})
    assert len(payloads) > 3
    assert DONE not in payloads
    assert all(isinstance(parse(payload), dict) and b"\n" not in payload for payload in payloads)


async def test_a_stream_says_that_it_is_one_and_counts_what_came(provider: Provider) -> None:
    call = provider.call({})
    batches = [batch async for batch in provider.connection.stream(call)]
    assert call.streamed, "else what a caller leaves behind is paid as if nobody had watched it"
    assert call.payloads >= sum(map(len, batches))


async def test_no_batch_is_empty(provider: Provider) -> None:
    assert all([batch async for batch in provider.connection.stream(provider.call({}))])


async def test_a_stream_tells_the_usage_although_nobody_asked(provider: Provider) -> None:
    assert parse((await provider.payloads({}))[-1])["usage"]["completion_tokens"] > 0


async def test_the_callers_body_is_left_as_it_is(provider: Provider) -> None:
    body = {"stream_options": {"include_usage": False}, "tools": [WEATHER], "user": "me"}
    before = copy.deepcopy(body)
    await provider.complete(body)
    await provider.folded(body)
    assert body == before
    for call in provider.calls:
        assert call.body == {"model": "public-1", "messages": call.body["messages"], **before}


async def test_embeddings_are_the_same_in_both_encodings(embedder: Provider) -> None:
    floats = await embedder.complete({"input": ["a", "b"]}, EMBEDDINGS)
    packed = await embedder.complete({"input": ["a", "b"], "encoding_format": "base64"}, EMBEDDINGS)
    assert [entry["index"] for entry in floats["data"]] == [0, 1]
    for plain, coded in zip(floats["data"], packed["data"], strict=True):
        data = base64.b64decode(coded["embedding"])
        assert struct.unpack(f"<{len(data) // 4}f", data) == pytest.approx(plain["embedding"], abs=1e-6)


async def test_an_endpoint_that_a_wire_does_not_have_is_refused(provider: Provider, lacking: str) -> None:
    body = {"prompt": "Once upon a time", "input": "x"}
    with pytest.raises(UpstreamRefused) as plain:
        await provider.complete(body, lacking)
    with pytest.raises(UpstreamRefused):
        await provider.folded(body, lacking)
    assert lacking in plain.value.message
    assert plain.value.status == 400


FAILURES: dict[int, tuple[type[PenstockError], ...]] = {
    400: (UpstreamRefused,),
    422: (UpstreamRefused,),
    429: (UpstreamBusy, RateLimited),  # a simulated 429 stands for the gateway's own limit
    500: (UpstreamUnavailable,),
    503: (UpstreamUnavailable, UpstreamBusy),
    504: (UpstreamTimeout,),
}


@pytest.mark.parametrize("status", FAILURES)
async def test_a_failure_is_told_by_its_kind(provider: Provider, status: int) -> None:
    body = {"simulate": {"error": status}}
    with pytest.raises(FAILURES[status]) as plain:
        await provider.complete(body)
    with pytest.raises(FAILURES[status]) as streamed:
        await provider.payloads(body)
    assert plain.type is streamed.type
    assert plain.value.message == streamed.value.message


BREAKING = {"simulate": {"cut_after": 2, "tokens_per_second": 20}}


async def test_a_stream_that_breaks_off_gives_what_it_had_and_then_fails(provider: Provider) -> None:
    payloads = []
    with pytest.raises(UpstreamError):  # noqa: PT012 - what came before it counts too
        async for batch in provider.connection.stream(
            provider.call({"simulate": {"cut_after": 2, "tokens_per_second": 20}})
        ):
            payloads += batch
    assert payloads


async def test_a_plain_answer_that_breaks_off_is_no_answer(provider: Provider) -> None:
    with pytest.raises(UpstreamError):
        await provider.complete({"simulate": {"cut_after": 2}})


SLOW = {"simulate": {"ttft": 30}}
HALTING = {"simulate": {"tokens_per_second": 2}}


@pytest.mark.parametrize("body", [SLOW, HALTING], ids=["before the first token", "between tokens"])
async def test_the_deadline_ends_a_call(provider: Provider, body: dict[str, Any]) -> None:
    with pytest.raises(UpstreamTimeout):
        await provider.connection.complete(provider.call(body, seconds=0.2))
    with pytest.raises(UpstreamTimeout):
        async for _ in provider.connection.stream(provider.call(body, seconds=0.2)):
            pass


async def test_a_deadline_that_has_passed_is_a_timeout_at_once(provider: Provider) -> None:
    with pytest.raises(UpstreamTimeout):
        await provider.connection.complete(provider.call(SLOW, seconds=-1))
    with pytest.raises(UpstreamTimeout):
        await anext(provider.connection.stream(provider.call(SLOW, seconds=-1)))


@pytest.mark.parametrize("body", [SLOW, HALTING], ids=["before the first token", "between tokens"])
async def test_a_call_may_be_cancelled(provider: Provider, body: dict[str, Any]) -> None:
    asked = asyncio.ensure_future(provider.connection.complete(provider.call(body)))
    await asyncio.sleep(0)
    asked.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await asked


async def test_a_stream_may_be_closed_in_its_middle(provider: Provider) -> None:
    stream = provider.connection.stream(provider.call(HALTING))
    async with asyncio.timeout(5):
        assert await anext(stream)
        await stream.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_many_calls_at_once_do_not_mix(provider: Provider) -> None:
    def said(document: dict[str, Any]) -> str:
        text: str = document["choices"][0]["message"]["content"]
        return text

    asked = [{"messages": [{"role": "user", "content": f"number {number}"}]} for number in range(40)]
    answers = await asyncio.gather(*(provider.complete(body) for body in asked))
    streams = await asyncio.gather(*(provider.folded(body) for body in asked))
    for number, answer in enumerate([*answers, *streams]):
        assert said(answer).endswith(f" number {number % 40}")


async def test_a_good_provider_may_be_looked_at(provider: Provider) -> None:
    await provider.connection.probe(asyncio.get_running_loop().time() + 10)


@pytest.mark.parametrize("plug", [plug for plug in plugs.names("providers") if plug != "simulated"])
async def test_a_provider_that_is_not_there_is_seen_to_be_away(plug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    client = HttpClient()
    for kind in engine_of(plug).KINDS:
        nowhere = Deployment("x/y", "y", "x", kind, "y", f"http://127.0.0.1:{free_port()}/v1")
        with pytest.raises(UpstreamError):
            await plugs.load("providers", plug).connect(nowhere, client).probe(asyncio.get_running_loop().time() + 10)
    await client.aclose()


async def test_models_are_cards_of_this_provider(provider: Provider) -> None:
    cards = await provider.connection.models(asyncio.get_running_loop().time() + 10)
    assert cards
    for card in cards:
        assert card.id
        assert card.owned_by == "first"
        assert card.created > 1_600_000_000
