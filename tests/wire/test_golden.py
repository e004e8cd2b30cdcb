"""The bytes that the ``openai`` provider puts on the wire, and what it makes of the bytes that engines answer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from penstock.providers._profiles import PROFILES
from tests.wire import gateway as gateways
from tests.wire.gateway import MODEL
from tests.wire.upstream import DONE, Call, Script, Upstream, answering, chunk, completion, streaming

SECRET = "sk-engine-secret"


def lines(*texts: str) -> bytes:
    return "\r\n".join(texts).encode()


def sent(call: Call) -> bytes:
    """What was sent upstream, with a name for what differs from one run to the next."""
    data = call.head + b"\r\n\r\n" + call.body
    return re.sub(rb"req_[0-9a-f]{24}", b"REQUEST-ID", re.sub(rb"127\.0\.0\.1:\d+", b"UPSTREAM", data))


async def request_bytes(
    folder: Path, upstream: Upstream, script: Script, path: str, body: dict[str, Any], **fields: Any
) -> bytes:
    """What one call to the gateway sends upstream."""
    upstream.script = script
    provider = gateways.provider(upstream.url, custom_headers={"x-team": "blue"}, **fields)
    async with gateways.serve(folder, provider, credentials={"PENSTOCK_ENGINE_API_KEY": SECRET}) as gateway:
        reply = await (gateway.stream(path, **body) if body.get("stream") else gateway.plain(path, **body))
    assert reply.status == 200, reply.body
    return sent(upstream.calls[-1])


async def test_a_plain_chat(tmp_path: Path, upstream: Upstream) -> None:
    body = {"temperature": 0.5, "x_vendor": "ä ☃"}
    data = await request_bytes(
        tmp_path, upstream, answering(completion()), "/v1/chat/completions", body, api_key_env="PENSTOCK_ENGINE_API_KEY"
    )
    assert data == lines(
        "POST /v1/chat/completions HTTP/1.1",
        "host: UPSTREAM",
        "content-type: application/json",
        "accept-encoding: identity",
        "authorization: Bearer sk-engine-secret",
        "x-team: blue",
        "x-request-id: REQUEST-ID",
        "content-length: 105",
        "",
        '{"model":"engine-1","messages":[{"role":"user","content":"Hello"}],"temperature":0.5,"x_vendor":"ä ☃"}',
    )


async def test_a_streamed_chat_without_a_credential(tmp_path: Path, upstream: Upstream) -> None:
    data = await request_bytes(
        tmp_path, upstream, streaming(chunk("Hi"), chunk(finish="stop")), "/v1/chat/completions", {"stream": True}
    )
    assert data == lines(
        "POST /v1/chat/completions HTTP/1.1",
        "host: UPSTREAM",
        "content-type: application/json",
        "accept-encoding: identity",
        "x-team: blue",
        "x-request-id: REQUEST-ID",
        "content-length: 121",
        "",
        '{"model":"engine-1","messages":[{"role":"user","content":"Hello"}],"stream":true,'
        '"stream_options":{"include_usage":true}}',
    )


async def test_a_text_completion(tmp_path: Path, upstream: Upstream) -> None:
    answer = {"object": "text_completion", "choices": [{"index": 0, "text": "!", "finish_reason": "stop"}]}
    body = {"prompt": ["Once", "upon"], "max_tokens": 3}
    data = await request_bytes(tmp_path, upstream, answering(answer), "/v1/completions", body)
    assert data.startswith(b"POST /v1/completions HTTP/1.1\r\n")
    assert data.endswith(b'\r\n\r\n{"model":"engine-1","prompt":["Once","upon"],"max_tokens":3}')


@pytest.mark.parametrize("kind", ["openai", "sglang", "vllm"])
async def test_embeddings_are_never_streamed(tmp_path: Path, upstream: Upstream, kind: str) -> None:
    answer = {"object": "list", "model": "/srv/models/tiny", "data": [{"index": 0, "embedding": "AACAPw=="}]}
    body = {"input": [[1, 2], [3]], "encoding_format": "base64"}
    data = await request_bytes(tmp_path, upstream, answering(answer), "/v1/embeddings", body, type=kind)
    assert data.startswith(b"POST /v1/embeddings HTTP/1.1\r\n")
    assert data.endswith(b'\r\n\r\n{"model":"engine-1","input":[[1,2],[3]],"encoding_format":"base64"}')


async def test_embeddings_carry_the_public_name_instead_of_a_path(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script = answering({"object": "list", "model": "/srv/models/tiny", "data": [{"embedding": [0.5]}]})
    async with gateways.serve(tmp_path, gateways.provider(upstream.url)) as gateway:
        reply = await gateway.plain("/v1/embeddings", input="x")
    assert reply.json["model"] == MODEL
    assert b"/srv" not in reply.body


# SGLang's profile


def engine(*answers: Script, generates: bool = True) -> Script:
    """An SGLang engine that says of itself whether it generates, and then answers as scripted."""
    left = list(answers)

    async def script(call: Call) -> None:
        if call.method == "GET":
            assert call.target == "/model_info"
            call.answer({"model_path": "/srv/models/tiny", "is_generation": generates})
        else:
            await (left.pop(0) if len(left) > 1 else left[0])(call)

    return script


CHUNKS = streaming(chunk("Hel"), chunk("lo"), chunk(finish="stop"))


async def test_sglang_is_streamed_from_for_plain_callers_too_and_sent_what_it_knows(
    tmp_path: Path, upstream: Upstream
) -> None:
    body = {"top_k": 3, "rid": "mine", "input_ids": [1], "lora_path": "/x", "metadata": {}, "stream": False}
    data = await request_bytes(tmp_path, upstream, engine(CHUNKS), "/v1/chat/completions", body, type="sglang")
    assert data.endswith(
        b'\r\n\r\n{"model":"engine-1","messages":[{"role":"user","content":"Hello"}],"top_k":3,"stream":true,'
        b'"stream_options":{"include_usage":true}}'
    )


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
async def test_the_caller_is_told_which_fields_were_dropped(tmp_path: Path, upstream: Upstream, stream: bool) -> None:
    upstream.script = engine(CHUNKS)
    async with gateways.serve(tmp_path, gateways.provider(upstream.url, type="sglang")) as gateway:
        reply = await gateway.plain(stream=stream, rid="mine", top_k=3, metadata={})
        silent = await gateway.plain(stream=stream, top_k=3)
    assert reply.headers["x-penstock-dropped"] == "rid,metadata"
    assert "x-penstock-dropped" not in silent.headers


async def test_openai_is_sent_everything(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script = answering(completion())
    async with gateways.serve(tmp_path, gateways.provider(upstream.url)) as gateway:
        reply = await gateway.plain(rid="mine", metadata={})
    assert upstream.calls[0].json.keys() == {"model", "messages", "rid", "metadata"}
    assert "x-penstock-dropped" not in reply.headers


async def test_an_engine_that_only_embeds_gets_no_chat(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script = engine(CHUNKS, generates=False)
    async with gateways.serve(tmp_path, gateways.provider(upstream.url, type="sglang")) as gateway:
        for stream in (True, False):
            reply = await gateway.plain(stream=stream)
            assert (reply.status, reply.error["param"]) == (400, "model")
    assert {call.method for call in upstream.calls} == {"GET"}, "a chat reached an engine that dies of it"


def flat(message: str, code: int, kind: str = "BadRequestError") -> dict[str, Any]:
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code}


OVERFLOW = "The input (9013 tokens) is longer than the model's context length (1024 tokens)."
VALIDATION = (
    "1 validation error:\n  {'type': 'float_parsing', 'loc': ('body', 'temperature')}\n\n"
    '  File "/usr/lib/python3/site-packages/sglang/srt/entrypoints/http_server.py", line 1870, in openai_v1\n    POST'
)
GRAMMAR = 'Failed to compile json grammar: [14:35:58] /project/cpp/json_schema_converter.cc:4175: Unsupported "wat"'
FLAT: dict[str, tuple[Script, int, str, str]] = {
    "a wrong field": (
        answering(flat("temperature must be non-negative", 400), 400),
        400,
        "invalid_request",
        "temperature must be non-negative",
    ),
    "an overflow": (answering(flat(OVERFLOW, 400), 400), 400, "context_length_exceeded", OVERFLOW),
    "a validation with a traceback": (
        answering(flat(VALIDATION, 400, "Bad Request"), 400),
        400,
        "invalid_request",
        "1 validation error:\n  {'type': 'float_parsing', 'loc': ('body', 'temperature')}",
    ),
    "a frame that blames the caller": (
        streaming({"error": flat(GRAMMAR, 400, "BAD_REQUEST")}),
        400,
        "invalid_request",
        'Failed to compile json grammar: [14:35:58] [path]:4175: Unsupported "wat"',
    ),
    "a full queue": (
        answering(flat("The request queue is full.", 503, "503"), 503),
        503,
        "upstream_busy",
        "first: The request queue is full.",
    ),
    "a wrong key": (
        answering({"error": "Unauthorized"}, 401),
        502,
        "upstream_unavailable",
        "first does not accept our credential",
    ),
    "no such path": (answering({"detail": "Not Found"}, 404), 502, "upstream_unavailable", "first: Not Found"),
    "a bare 500": (answering(b"Internal Server Error", 500, "text/plain"), 502, "upstream_unavailable", "status 500"),
}


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
@pytest.mark.parametrize("kind", FLAT)
async def test_an_engines_errors_get_openais_form(tmp_path: Path, upstream: Upstream, kind: str, stream: bool) -> None:
    script, status, code, message = FLAT[kind]
    upstream.script = engine(script)
    async with gateways.serve(tmp_path, gateways.provider(upstream.url, type="sglang")) as gateway:
        reply = await gateway.plain(stream=stream)
    assert reply.status == status
    assert reply.error["code"] == code
    assert reply.error["message"].endswith(message)
    assert reply.error.keys() >= {"message", "type", "param", "code"}
    assert reply.json["detail"] == reply.error["message"]
    assert b".py" not in reply.body
    assert b".cc" not in reply.body


async def test_a_credential_that_an_upstream_repeats_is_not_passed_on(tmp_path: Path, upstream: Upstream) -> None:
    secret = "hunter2-without-any-prefix"
    said = {"error": {"message": f"the key {secret} is over its quota"}}
    provider = gateways.provider(upstream.url, api_key_env="PENSTOCK_ENGINE_API_KEY")
    async with gateways.serve(tmp_path, provider, credentials={"PENSTOCK_ENGINE_API_KEY": secret}) as gateway:
        for script in (answering(said, 500), answering(said, 400), answering(said), streaming(said)):
            upstream.script = script
            for reply in (await gateway.plain(), await gateway.plain(stream=True)):
                assert reply.status >= 400
                assert secret.encode() not in reply.body


# The frames that leave the gateway


async def test_frames_are_data_lines_with_a_blank_line_after_each(tmp_path: Path, upstream: Upstream) -> None:
    said = {"choices": [{"text": "x", "finish_reason": "stop"}]}
    upstream.script = streaming({"model": "engine-1", "choices": []}, {"model": "engine-1", **said})
    async with gateways.serve(tmp_path, gateways.provider(upstream.url)) as gateway:
        reply = await gateway.stream()
    assert reply.body == (
        b'data: {"model":"public-1","choices":[]}\n\n'
        b'data: {"model":"public-1","choices":[{"text":"x","finish_reason":"stop"}]}\n\n' + DONE
    )


async def test_an_engine_says_what_its_model_can_do(tmp_path: Path, upstream: Upstream) -> None:
    about = {"is_generation": True, "tool_call_parser": "qwen25", "has_image_understanding": False}

    async def script(call: Call) -> None:
        if call.target == PROFILES["sglang"].about:
            call.answer(about)
        else:
            assert call.target == "/v1/models"
            call.answer({"data": [{"id": "tiny", "created": 1, "max_model_len": 1024}]})

    upstream.script = script
    row = {**gateways.provider(f"{upstream.url}", type="sglang"), "models": []}
    async with gateways.serve(tmp_path, row) as gateway:
        [entry] = (await gateway.client.get("/v1/models")).json()["data"]
        assert (entry["context_window"], entry["capabilities"]) == (1024, ["chat", "completions", "tools"])
        about["is_generation"] = False
        told = (await gateway.client.post("/v1/registry/refresh")).json()
    assert (told["changed"], told["added"], told["removed"], told["failed"]) == (["tiny"], [], [], [])
