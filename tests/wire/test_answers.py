"""What is inside an answer: the public model's name, usage where it was asked for, and everything else untouched."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wire.gateway import MODEL, Gateway
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
    event,
    streaming,
    usage_chunk,
)

THEIRS = '"model":"engine-1"'


def raw(*payloads: str) -> Script:
    """A script that streams payloads as they are."""

    async def script(call: Call) -> None:
        call.begin()
        for payload in payloads:
            call.piece(f"data: {payload}\n\n".encode())
        call.piece(DONE)
        call.finish()

    return script


def compact(document: Any) -> str:
    return json.dumps(document, separators=(",", ":"))


def calling(arguments: str) -> Document:
    """A chunk with a tool call."""
    function = {"name": "set_model", "arguments": arguments}
    delta = {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]}
    return {**chunk(), "choices": [{"index": 0, "delta": delta, "finish_reason": "tool_calls"}]}


def without_model(document: Document) -> Document:
    return {name: value for name, value in document.items() if name != "model"}


CHUNK = chunk("Hello", "stop")
NESTED = {"model": "engine-1", "route": [{"model": "engine-1"}, {"model": "other"}]}
SPELLINGS: dict[str, str] = {
    "renamed": compact(CHUNK),
    "public already": compact({**CHUNK, "model": MODEL}),
    "spaced": json.dumps(CHUNK),
    "oddly spaced": compact(CHUNK).replace(THEIRS, '"model" :\t  "engine-1"'),
    "escaped": compact(CHUNK).replace(THEIRS, r'"model":"\u0065ngine-1"'),
    "missing": compact(without_model(CHUNK)),
    "null": compact({**CHUNK, "model": None}),
    "a number": compact({**CHUNK, "model": 7}),
    "empty": compact({**CHUNK, "model": ""}),
    "with a quote in it": compact({**CHUNK, "model": 'engine "1"'}),
    "another's": compact({**CHUNK, "model": "engine-2"}),
    "nested before": compact({"x_info": NESTED, **CHUNK}),
    "nested behind": compact({**CHUNK, "x_info": NESTED}),
    "nested alone": compact({"x_info": {"model": "engine-1"}, **without_model(CHUNK)}),
    "in the text": compact(chunk('say "model":"engine-1" twice: "model":"engine-1"', "stop")),
    "in a tool's arguments": compact(calling('{"model":"engine-1"}')),
    "in a tool's arguments, missing outside": compact(without_model(calling('{"model":"engine-1"}'))),
    "last": compact({**without_model(CHUNK), "model": "engine-1"}),
}


def renamed(payload: str) -> Document:
    """The same document under the public model's name."""
    return {**json.loads(payload), "model": MODEL}


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_every_chunk_carries_the_public_model_name(gateway: Gateway, upstream: Upstream, spelling: str) -> None:
    odd, plain = SPELLINGS[spelling], compact(CHUNK)
    for payloads in ([odd, odd, odd], [plain, odd, plain], [odd, plain, odd]):
        upstream.script = raw(*payloads)
        reply = await gateway.stream()
        assert reply.ended_well()
        assert reply.events == [renamed(payload) for payload in payloads]


@pytest.mark.parametrize("model", ["engine-1", MODEL, "", None, 7, {"model": "engine-1"}], ids=repr)
async def test_a_plain_answer_carries_the_public_model_name(gateway: Gateway, upstream: Upstream, model: Any) -> None:
    nested = {**completion(), "x_info": NESTED}
    for document in ({**nested, "model": model}, without_model(nested)):
        upstream.script = answering(document)
        reply = await gateway.plain()
        assert reply.json == {**document, "model": MODEL}


async def test_a_plain_answer_under_the_right_name_is_passed_on_byte_by_byte(
    gateway: Gateway, upstream: Upstream
) -> None:
    answer = json.dumps(completion(model=MODEL), indent=3).encode()
    upstream.script = answering(answer)
    assert (await gateway.plain()).body == answer


async def test_a_chunk_keeps_its_bytes_but_for_the_name(gateway: Gateway, upstream: Upstream) -> None:
    odd = r'{"b":1.0e2, "a":"\u00e4\/","model":"engine-1","choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}'
    upstream.script = raw(odd, odd)
    reply = await gateway.stream()
    assert reply.payloads[:2] == [odd.replace("engine-1", MODEL).encode()] * 2


async def test_the_upstream_is_asked_for_its_own_model(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = streaming(*HELLO)
    await gateway.stream()
    assert upstream.calls[0].json["model"] == "engine-1"


# Usage


ASKS: dict[str, tuple[dict[str, Any], bool]] = {
    "nothing said": ({}, False),
    "asked": ({"stream_options": {"include_usage": True}}, True),
    "declined": ({"stream_options": {"include_usage": False}}, False),
    "null": ({"stream_options": None}, False),
    "other options": ({"stream_options": {"include_obfuscation": False}}, False),
}


@pytest.mark.parametrize("ask", ASKS)
async def test_the_upstream_is_always_asked_for_usage_and_the_caller_gets_it_if_he_asked(
    gateway: Gateway, upstream: Upstream, ask: str
) -> None:
    options, shown = ASKS[ask]
    upstream.script = streaming(*HELLO)
    reply = await gateway.stream(**options)
    sent = upstream.calls[0].json["stream_options"]
    assert sent == {**(options.get("stream_options") or {}), "include_usage": True}
    assert reply.ended_well()
    assert [event["usage"]["total_tokens"] for event in reply.events if "usage" in event] == ([9] if shown else [])
    outcome = await gateway.outcome()
    assert (outcome.usage.prompt_tokens, outcome.usage.completion_tokens) == (7, 2)
    assert outcome.usage_reported


@pytest.mark.parametrize("shown", [True, False])
async def test_usage_may_come_with_the_last_words(gateway: Gateway, upstream: Upstream, shown: bool) -> None:
    usage = usage_chunk()["usage"]
    last = {**chunk(" there", "stop"), "usage": usage}
    upstream.script = streaming({**chunk("Hello"), "usage": None}, last)
    reply = await gateway.stream(stream_options={"include_usage": shown})
    assert reply.ended_well()
    assert reply.text == "Hello there"
    assert reply.events[-1].get("usage") == (usage if shown else None)
    assert (await gateway.outcome()).usage.total_tokens == 9


async def test_the_last_of_several_usages_counts(gateway: Gateway, upstream: Upstream) -> None:
    growing = [{**chunk("x", "stop"), "usage": usage_chunk(7, number)["usage"]} for number in (1, 2, 3)]
    upstream.script = streaming(*growing)
    await gateway.stream()
    assert (await gateway.outcome()).usage.completion_tokens == 3


async def test_cached_tokens_are_settled(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = streaming(chunk("Hello", "stop"), usage_chunk(20, 2, prompt_tokens_details={"cached_tokens": 14}))
    await gateway.stream()
    assert (await gateway.outcome()).usage.cached_tokens == 14


HUGE = {"prompt_tokens": 10**30, "completion_tokens": 10**30}


@pytest.mark.parametrize("usage", [7, [], "many", {"prompt_tokens": "x", "completion_tokens": -1}, {}, HUGE], ids=repr)
async def test_odd_usage_does_no_harm(gateway: Gateway, upstream: Upstream, usage: Any) -> None:
    upstream.script = streaming(chunk("Hello", "stop"), {**usage_chunk(), "usage": usage})
    assert (await gateway.stream()).ended_well()
    upstream.script = answering({**completion(), "usage": usage})
    assert (await gateway.plain()).status == 200
    assert all(outcome.usage.completion_tokens in (0, 2) for outcome in await gateway.outcomes(2))


async def test_an_upstream_that_counts_nothing_is_estimated_by_its_chunks(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = streaming(chunk("Hello"), chunk(" there"), chunk(finish="stop"))
    await gateway.stream()
    outcome = await gateway.outcome()
    assert (outcome.usage.completion_tokens, outcome.usage_reported) == (3, False)


async def test_the_usage_of_a_plain_answer_is_settled(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = answering(completion())
    await gateway.plain()
    outcome = await gateway.outcome()
    assert (outcome.usage.prompt_tokens, outcome.usage.completion_tokens, outcome.stream) == (7, 2, False)


# Everything else


def logprob(token: str) -> Document:
    entry = {"token": token, "logprob": -0.25, "bytes": list(token.encode())}
    return {"content": [{**entry, "top_logprobs": [entry]}], "refusal": None}


def indexed(index: int, content: str | None, finish: str | None = None) -> Document:
    one = chunk(content, finish)
    return {**one, "choices": [{**one["choices"][0], "index": index}]}


def piece_of_call(index: int, **function: str) -> Document:
    named = {"id": f"call_{index}", "type": "function"} if "name" in function else {}
    delta = {"tool_calls": [{"index": index, **named, "function": function}]}
    return {**chunk(), "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


STREAMS: dict[str, list[Document]] = {
    "n": [indexed(0, "a"), indexed(1, "b"), indexed(0, None, "stop"), indexed(1, "c"), indexed(1, None, "length")],
    "tools": [
        piece_of_call(0, name="get_weather", arguments=""),
        piece_of_call(0, arguments='{"city": "'),
        piece_of_call(0, arguments='Zürich"}'),
        piece_of_call(1, name="get_time", arguments="{}"),
        chunk(finish="tool_calls"),
    ],
    "logprobs": [
        {**chunk(), "choices": [{"index": 0, "delta": {"content": t}, "logprobs": logprob(t), "finish_reason": None}]}
        for t in ("Hi", " ☃")
    ]
    + [chunk(finish="stop")],
    "fields of its own": [{**chunk("x"), "service_tier": "flex", "obfuscation": "aZ"}, chunk(finish="stop")],
}


@pytest.mark.parametrize("kind", STREAMS)
async def test_whatever_a_chunk_holds_goes_through(gateway: Gateway, upstream: Upstream, kind: str) -> None:
    upstream.script = streaming(*STREAMS[kind])
    reply = await gateway.stream()
    assert reply.ended_well()
    assert reply.events == [{**document, "model": MODEL} for document in STREAMS[kind]]


async def test_whatever_a_request_holds_reaches_the_upstream(gateway: Gateway, upstream: Upstream) -> None:
    told = {
        "n": 2,
        "logprobs": True,
        "top_logprobs": 3,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "tool_choice": "auto",
        "response_format": {"type": "json_object"},
        "x_vendor": {"deep": [1, 2.5, None, "ä ☃ 𝄞"]},
        "messages": [{"role": "user", "content": "<script>alert(1)</script>' OR 1=1 --", "x": 1}],
    }
    upstream.script = answering(completion())
    await gateway.plain(**told)
    assert upstream.calls[0].json == {**told, "model": "engine-1"}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_pieces_of_a_stream_arrive_in_pieces_of_the_same_order(
    gateway: Gateway, upstream: Upstream, path: str
) -> None:
    async def script(call: Call) -> None:
        call.begin()
        for number in range(500):
            call.piece(event(chunk(f"{number} ")))
        call.piece(DONE)
        call.finish()

    upstream.script = script
    body = {"prompt": "Count"} if path == "/v1/completions" else {}
    reply = await gateway.stream(path, **body)
    assert reply.text == "".join(f"{number} " for number in range(500))
