"""What the ``ollama`` provider sends to Ollama's own API, and what it makes of the lines that come back."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import re
import struct
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import openai
import pytest

from penstock.core.fold import fold
from penstock.core.ports import Call as Asked
from penstock.errors import UpstreamProtocolError
from penstock.providers import ollama
from penstock.schema.model import Deployment
from penstock.schema.request import CHAT
from tests.wire import gateway as gateways
from tests.wire.gateway import KEY, MODEL
from tests.wire.pieces import Pieces
from tests.wire.upstream import Call, Script, Upstream, answering

RECORDED = Path(__file__).parents[3] / "shared" / "traffic" / "recorded.jsonl.gz"
NDJSON = "application/x-ndjson"
HELLO = [{"role": "user", "content": "Hello"}]

Body = dict[str, Any]


def line(**said: Any) -> Body:
    return {"model": "tiny:latest", "created_at": "2026-01-01T00:00:00.123456789Z", "done": False, **said}


def says(content: str = "", **more: Any) -> Body:
    return line(message={"role": "assistant", "content": content, **more})


def ends(reason: str = "stop", **more: Any) -> Body:
    return {**says(), "done": True, "done_reason": reason, "prompt_eval_count": 7, "eval_count": 2, **more}


def written(*lines: Body) -> bytes:
    return b"".join(json.dumps(each, ensure_ascii=False).encode() + b"\n" for each in lines)


GOOD = written(says("Hi"), says("!"), ends())
CALLED = [{"function": {"name": "weather", "arguments": {"city": "Oslo"}}}, {"id": "c9", "function": {"name": "time"}}]
STREAM = written(
    says("", thinking="Is it "),
    says("", thinking="cold? 🤔"),
    says("Grüße, "),
    says("世界!"),
    says("", tool_calls=CALLED),
    ends(),
)
FOLDED = {
    "role": "assistant",
    "content": "Grüße, 世界!",
    "reasoning_content": "Is it cold? 🤔",
    "tool_calls": [
        {"type": "function", "id": "call_req_1_0", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}},
        {"type": "function", "id": "c9", "function": {"name": "time", "arguments": "{}"}},
    ],
}


def provider(upstream: Upstream, **fields: Any) -> Body:
    return gateways.provider(upstream.url, type="ollama", **fields) | {
        "models": [{"name": MODEL, "upstream": "tiny:latest"}]
    }


# What is sent


async def test_the_bytes_of_a_chat(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script = answering(GOOD, kind=NDJSON)
    row = provider(upstream, api_key_env="OLLAMA_KEY", custom_headers={"x-team": "blue"})
    async with gateways.serve(tmp_path, row, credentials={"OLLAMA_KEY": "secret"}) as gateway:
        reply = await gateway.plain(temperature=0.5)
    assert reply.json["choices"][0]["message"] == {"role": "assistant", "content": "Hi!"}
    call = upstream.calls[0]
    data = re.sub(rb"127\.0\.0\.1:\d+", b"UPSTREAM", call.head + b"\r\n\r\n" + call.body)
    assert re.sub(rb"req_[0-9a-f]{24}", b"REQUEST-ID", data).decode().split("\r\n") == [
        "POST /api/chat HTTP/1.1",
        "host: UPSTREAM",
        "content-type: application/json",
        "accept-encoding: identity",
        "authorization: Bearer secret",
        "x-team: blue",
        "x-request-id: REQUEST-ID",
        "content-length: 114",
        "",
        '{"model":"tiny:latest","messages":[{"role":"user","content":"Hello"}],"stream":true,'
        '"options":{"temperature":0.5}}',
    ]


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/"])
async def test_an_address_may_end_in_v1_or_not(tmp_path: Path, upstream: Upstream, end: str) -> None:
    upstream.script = answering(GOOD, kind=NDJSON)
    row = provider(upstream) | {"base_url": upstream.url.removesuffix("/v1") + end}
    async with gateways.serve(tmp_path, row) as gateway:
        assert (await gateway.plain()).status == 200
    assert upstream.calls[0].target == "/api/chat"


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
TALK = [
    {"role": "developer", "content": "Be brief."},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What"},
            {"type": "text", "text": "is it?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
        ],
    },
    {
        "role": "assistant",
        "content": None,
        "reasoning_content": "Hm.",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "4 °C"},
]
TOLD = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What\nis it?", "images": ["iVBORw0KGgo="]},
    {
        "role": "assistant",
        "content": "",
        "thinking": "Hm.",
        "tool_calls": [{"id": "c1", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}],
    },
    {"role": "tool", "content": "4 °C", "tool_call_id": "c1", "tool_name": "weather"},
]
FORM = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
SAMPLING = {"top_p": 0.9, "top_k": 5, "min_p": 0.1, "seed": 7, "presence_penalty": 1.0, "frequency_penalty": 0.5}

# What a caller says, what Ollama is told (beside model, messages and stream), and what is dropped.
REQUESTS: dict[str, tuple[Body, Body, str]] = {
    "a conversation": ({"messages": TALK}, {"messages": TOLD}, ""),
    "sampling": (SAMPLING, {"options": SAMPLING}, ""),
    "stops": ({"stop": "END"}, {"options": {"stop": ["END"]}}, ""),
    "a bound": ({"max_tokens": 7}, {"options": {"num_predict": 7}}, ""),
    "the newer bound": ({"max_tokens": 7, "max_completion_tokens": 9}, {"options": {"num_predict": 9}}, ""),
    "its own options": (
        {
            "options": {"num_ctx": 9, "temperature": 1},
            "temperature": 0.5,
            "repetition_penalty": 1.1,
            "keep_alive": "5m",
        },
        {"options": {"num_ctx": 9, "temperature": 0.5, "repeat_penalty": 1.1}, "keep_alive": "5m"},
        "",
    ),
    "tools": ({"tools": TOOLS, "tool_choice": "auto"}, {"tools": TOOLS}, ""),
    "no tool": ({"tools": TOOLS, "tool_choice": "none", "parallel_tool_calls": False}, {}, ""),
    "a forced tool": (
        {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False},
        {"tools": TOOLS},
        "tool_choice,parallel_tool_calls",
    ),
    "effort": ({"reasoning_effort": "xhigh"}, {"think": "high"}, ""),
    "no effort": ({"reasoning_effort": "none"}, {"think": False}, ""),
    "its own word for it": ({"think": True, "reasoning_effort": "low"}, {"think": True}, "reasoning_effort"),
    "any JSON": ({"response_format": {"type": "json_object"}}, {"format": "json"}, ""),
    "a schema": ({"response_format": FORM}, {"format": SCHEMA}, ""),
    "logprobs": ({"logprobs": True, "top_logprobs": 2}, {"logprobs": True, "top_logprobs": 2}, ""),
    "no logprobs": ({"logprobs": False, "n": 1}, {}, ""),
    "what there is not": ({"n": 2, "user": "me", "logit_bias": {"1": 1}, "x": 1}, {}, "n,user,logit_bias,x"),
}


@pytest.mark.parametrize("case", REQUESTS)
async def test_what_is_said_in_openais_words_is_told_in_ollamas(tmp_path: Path, upstream: Upstream, case: str) -> None:
    body, told, dropped = REQUESTS[case]
    upstream.script = answering(GOOD, kind=NDJSON)
    async with gateways.serve(tmp_path, provider(upstream)) as gateway:
        reply = await gateway.plain(**body)
    assert reply.status == 200, reply.body
    assert upstream.calls[0].json == {"model": "tiny:latest", "messages": HELLO, "stream": True, **told}
    assert reply.headers.get("x-penstock-dropped", "") == dropped


REFUSED: dict[str, tuple[str, Body, str]] = {
    "sound": ("chat/completions", {"messages": [{"role": "user", "content": [{"type": "x"}]}]}, "messages.0.content.0"),
    "an image elsewhere": (
        "chat/completions",
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/a.png"}}]}]},
        "messages.0.content.0",
    ),
    "a role of old": ("chat/completions", {"messages": [{"role": "function", "content": "4"}]}, "messages.0.role"),
    "options that are none": ("chat/completions", {"options": 5}, "options"),
    "several texts": ("completions", {"prompt": ["a", "b"]}, "prompt"),
    "tokens": ("completions", {"prompt": [1, 2]}, "prompt"),
    "tokens to embed": ("embeddings", {"input": [[1, 2]]}, "input"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_cannot_be_said_to_ollama_is_refused_by_its_name(
    tmp_path: Path, upstream: Upstream, case: str
) -> None:
    endpoint, body, param = REFUSED[case]
    async with gateways.serve(tmp_path, provider(upstream)) as gateway:
        reply = await gateway.plain(f"/v1/{endpoint}", **body)
    assert (reply.status, reply.error["param"]) == (400, param)
    assert not upstream.calls


async def test_a_text_completion(tmp_path: Path, upstream: Upstream) -> None:
    said = written(line(response="upon "), line(response="a time"), line(response="", done=True, done_reason="length"))
    upstream.script = answering(said, kind=NDJSON)
    async with gateways.serve(tmp_path, provider(upstream)) as gateway:
        reply = await gateway.plain("/v1/completions", prompt=["Once"], suffix="!", max_tokens=3, echo=True)
    assert upstream.calls[0].target == "/api/generate"
    sent = {"model": "tiny:latest", "prompt": "Once", "stream": True, "suffix": "!", "options": {"num_predict": 3}}
    assert upstream.calls[0].json == sent
    assert reply.json["choices"] == [{"index": 0, "text": "upon a time", "logprobs": None, "finish_reason": "length"}]
    assert reply.headers["x-penstock-dropped"] == "echo"


@pytest.mark.parametrize("packed", [True, False], ids=["base64", "floats"])
async def test_embeddings(tmp_path: Path, upstream: Upstream, packed: bool) -> None:
    upstream.script = answering({"model": "tiny:latest", "embeddings": [[0.5, -1]], "prompt_eval_count": 3})
    async with gateways.serve(tmp_path, provider(upstream)) as gateway:
        more = {"encoding_format": "base64"} if packed else {}
        reply = await gateway.plain("/v1/embeddings", input="x", dimensions=2, user="me", **more)
    assert upstream.calls[0].target == "/api/embed"
    assert upstream.calls[0].json == {"model": "tiny:latest", "input": ["x"], "dimensions": 2}
    vector = base64.b64encode(struct.pack("<2f", 0.5, -1)).decode() if packed else [0.5, -1]
    assert reply.json["data"] == [{"object": "embedding", "index": 0, "embedding": vector}]
    assert reply.json["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert reply.headers["x-penstock-dropped"] == "user"


async def test_models_are_found(tmp_path: Path, upstream: Upstream) -> None:
    entry = {"name": "tiny:latest", "model": "tiny:latest", "modified_at": "2025-05-04T17:37:44.706015396-07:00"}
    upstream.script = answering({"models": [entry]})
    async with gateways.serve(tmp_path, provider(upstream) | {"models": []}) as gateway:
        found = json.loads((await gateway.client.get("/v1/models")).content)["data"]
    assert [(model["id"], model["created"]) for model in found] == [("tiny:latest", 1746405464)]
    assert upstream.calls[0].target == "/api/tags"


async def test_what_each_model_can_do_is_asked_once(tmp_path: Path, upstream: Upstream) -> None:
    about = {
        "tiny:latest": {
            "capabilities": ["completion", "tools", "thinking", "insert"],
            "model_info": {"general.architecture": "llama", "llama.context_length": 131072},
        },
        "nomic:latest": {"capabilities": ["embedding"], "model_info": {"nomic-bert.context_length": 2048}},
    }

    async def script(call: Call) -> None:
        if call.target == "/api/tags":
            call.answer({"models": [{"name": name, "digest": name[:2]} for name in (*about, "broken:latest")]})
        else:
            assert call.target == "/api/show"
            known = about.get(call.json["model"])
            call.answer(known or {"error": "no such file"}, 200 if known else 500)

    upstream.script = script
    async with gateways.serve(tmp_path, provider(upstream) | {"models": []}) as gateway:
        found = json.loads((await gateway.client.get("/v1/models")).content)["data"]
        assert [(model["id"], model.get("context_window"), model.get("capabilities")) for model in found] == [
            ("broken:latest", None, None),
            ("nomic:latest", 2048, ["embeddings"]),
            ("tiny:latest", 131072, ["chat", "completions", "tools", "reasoning"]),
        ]
        assert (await gateway.client.post("/v1/registry/refresh")).status_code == 200
    shown = [call.json["model"] for call in upstream.calls if call.target == "/api/show"]
    assert {shown.count(name) for name in about} == {1}, "a version is what it is"
    assert shown.count("broken:latest") > 1, "and who did not say may say later"


# What comes back


async def batches(*pieces: bytes) -> AsyncGenerator[list[bytes], None]:
    place = Deployment("first/m", "m", "first", "ollama", "tiny:latest", "http://x")
    call = Asked(CHAT, {"model": "m", "messages": HELLO}, 1e12, "req_1")
    async for batch in ollama.connect(place, Pieces(*pieces, kind=NDJSON)).stream(call):  # type: ignore[arg-type]
        yield batch


async def test_the_chunks_of_a_rich_stream_fold_to_what_it_says() -> None:
    document = await fold(batches(STREAM), CHAT)
    end = {"logprobs": None, "finish_reason": "tool_calls"}
    assert document["choices"] == [{"index": 0, "message": FOLDED, **end}]
    assert document["usage"] == {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    assert (document["id"], document["model"]) == ("chatcmpl-req_1", "tiny:latest")


async def test_the_bytes_may_be_cut_anywhere_but_not_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.providers._ollama_answer.time.time", lambda: 1_800_000_000)
    whole = [payload async for batch in batches(STREAM) for payload in batch]
    for at in range(len(STREAM)):
        assert [payload async for batch in batches(STREAM[:at], STREAM[at:]) for payload in batch] == whole, at
    for at in range(len(STREAM) - 1):  # the last byte is a line break, which the last line does without
        said: list[bytes] = []
        with pytest.raises(UpstreamProtocolError):  # noqa: PT012 - what came before it counts too
            async for batch in batches(STREAM[:at]):
                said += batch
        assert said == whole[: len(said)], at


async def test_logprobs_have_openais_form() -> None:
    found = {"token": "Hé", "logprob": -0.5, "top_logprobs": [{"token": "H", "logprob": -0.7, "bytes": [72]}]}
    document = await fold(batches(written({**says("Hé"), "logprobs": [found]}, ends())), CHAT)
    (entry,) = document["choices"][0]["logprobs"]["content"]
    other = {"token": "H", "logprob": -0.7, "bytes": [72]}
    assert entry == {"token": "Hé", "logprob": -0.5, "bytes": [72, 195, 169], "top_logprobs": [other]}


@pytest.mark.skipif(not RECORDED.exists(), reason=f"recorded provider traffic is not there: {RECORDED}")
async def test_a_recorded_answer_means_the_same(tmp_path: Path, upstream: Upstream) -> None:
    with gzip.open(RECORDED, "rt", encoding="utf-8") as lines:
        rows = [row for row in map(json.loads, lines) if row["provider"] == "ollama"]
    assert rows
    async with gateways.serve(tmp_path, provider(upstream)) as gateway:
        client = openai.AsyncOpenAI(api_key=KEY, base_url=f"{gateway.url}/v1", max_retries=0)
        for row in rows:
            theirs = json.loads(base64.b64decode(row["b64"]))
            upstream.script = answering(theirs, row["status"], row["ctype"])
            ours = await client.chat.completions.create(model=MODEL, messages=HELLO)  # type: ignore[arg-type]
            assert ours.choices[0].message.content == theirs["message"]["content"]
            assert ours.choices[0].finish_reason == theirs["done_reason"]
            assert ours.usage
            tokens = (ours.usage.prompt_tokens, ours.usage.completion_tokens)
            assert tokens == (theirs["prompt_eval_count"], theirs["eval_count"])
        await client.close()


# Errors

ERRORS: dict[str, tuple[Script, int, str, str]] = {
    "no such model": (answering({"error": "model 'x' not found"}, 404), 502, "upstream_unavailable", "first: model"),
    "a full queue": (answering({"error": "server busy"}, 503), 503, "upstream_busy", "first: server busy"),
    "a wrong field": (answering({"error": "no thinking"}, 400), 400, "invalid_request", "no thinking"),
    "a wrong key": (answering({"error": "unauthorized"}, 401), 502, "upstream_unavailable", "first does not accept"),
    "an error after a 200": (
        answering(written({"error": "out of memory"}), kind=NDJSON),
        *(502, "upstream_unavailable", "first: out of memory"),
    ),
    "an error after the first words": (
        answering(written(says("Hi"), {"error": "out of memory"}), kind=NDJSON),
        *(502, "upstream_unavailable", "first: out of memory"),
    ),
    "an end": (answering(written(says("Hi")), kind=NDJSON), 502, "upstream_protocol_error", "first ended the stream"),
    "no JSON": (answering(b"<html>\n", kind="text/html"), 502, "upstream_protocol_error", "a chunk of the stream"),
    "another shape": (answering(written({"done": True})), 502, "upstream_protocol_error", "the answer does not have"),
    "nothing": (answering(b"", kind=NDJSON), 502, "upstream_protocol_error", "first ended the stream"),
}


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
@pytest.mark.parametrize("case", ERRORS)
async def test_an_error_is_told_by_its_kind(tmp_path: Path, upstream: Upstream, case: str, stream: bool) -> None:
    upstream.script, status, code, message = ERRORS[case]
    async with gateways.serve(tmp_path, provider(upstream)) as gateway:
        reply = await gateway.plain(stream=stream)
    if stream and case == "an end":
        assert reply.status == 200
        assert code.encode() in reply.body
        return
    assert (reply.status, reply.error["code"]) == (status, code), reply.body
    assert reply.error["message"].startswith(message)


async def test_a_stream_that_breaks_off_ends_with_an_error_event(tmp_path: Path, upstream: Upstream) -> None:
    go = asyncio.Event()

    async def script(call: Call) -> None:
        call.begin(kind=NDJSON)
        call.piece(written(says("Hi")))
        await go.wait()
        call.piece(written({"error": "out of memory"}))
        call.finish()

    upstream.script = script
    async with gateways.serve(tmp_path, provider(upstream)) as gateway, gateway.open({"stream": True}) as live:
        await live.until(lambda body: b"Hi" in body)
        go.set()
        await live.rest()
    assert live.failed_with()["code"] == "upstream_unavailable"
    assert live.text == "Hi"
