"""The bytes that the ``bedrock`` provider puts on the wire for what callers say in OpenAI's words."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from penstock.errors import UpstreamError
from tests.wire import gateway as gateways
from tests.wire.amazon import ENVIRONMENT, REGION, check_request, check_signature, read_signature
from tests.wire.bedrock_requests import CLAUDE, HELLO, REQUESTS, TOOLS, Body
from tests.wire.gateway import MODEL, Gateway, Reply
from tests.wire.upstream import Call, Upstream, answering

ARN = "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/abc123def456"
ANSWER: Body = {
    "metrics": {"latencyMs": 328},
    "output": {"message": {"content": [{"text": "Hi!"}], "role": "assistant"}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 5, "outputTokens": 2, "serverToolUsage": {}, "totalTokens": 7},
}


pytestmark = pytest.mark.usefixtures("aws")


def provider(upstream: Upstream, model: str = CLAUDE, **fields: Any) -> Body:
    """A row of configuration for a model of Bedrock's."""
    models = [{"name": MODEL, "upstream": model}]
    row = gateways.provider(upstream.url.removesuffix("/v1"), type="bedrock", options={"region": REGION}, **fields)
    return row | {"models": models}


async def asked(folder: Path, upstream: Upstream, model: str, body: Body, **more: Any) -> tuple[Reply, Body]:
    """What a caller got, and the body that went upstream for it."""
    upstream.script = answering(ANSWER)
    async with gateways.serve(folder, provider(upstream, model), **more) as gateway:
        reply = await gateway.plain(**body)
    return reply, upstream.calls[-1].json if upstream.calls else {}


async def test_the_bytes_of_a_plain_chat(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script = answering(ANSWER, x_amzn_requestid="3768e7a9")
    async with gateways.serve(tmp_path, provider(upstream, custom_headers={"x-team": "blue"})) as gateway:
        reply = await gateway.plain(temperature=0.5)
    assert (reply.status, reply.json["id"], reply.json["model"]) == (200, "chatcmpl-3768e7a9", MODEL)
    call = upstream.calls[0]
    check_signature(call)
    head = call.head.decode()
    for pattern, name in (
        (r"req_[0-9a-f]{24}", "REQUEST-ID"),
        (r"127\.0\.0\.1:\d+", "UPSTREAM"),
        (r"\d{8}T\d{6}Z", "TIME"),
        (r"\d{8}/", "DAY/"),
        (r"[0-9a-f]{64}", "SIGNATURE"),
    ):
        head = re.sub(pattern, name, head)
    assert head.split("\r\n") == [
        "POST /model/eu.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse HTTP/1.1",
        "host: UPSTREAM",
        "content-type: application/json",
        "accept-encoding: identity",
        "x-team: blue",
        "x-amz-date: TIME",
        f"x-amz-security-token: {ENVIRONMENT['AWS_SESSION_TOKEN']}",
        "authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/DAY/eu-west-1/bedrock/aws4_request, "
        "SignedHeaders=host;x-amz-date;x-amz-security-token, Signature=SIGNATURE",
        "x-request-id: REQUEST-ID",
        "content-length: 97",
    ]
    assert call.body == (
        b'{"messages":[{"role":"user","content":[{"text":"Hello"}]}],"inferenceConfig":{"temperature":0.5}}'
    )


@pytest.mark.parametrize("model", [CLAUDE, ARN, "meta.llama3-70b-instruct-v1:0"])
async def test_a_model_of_any_name_is_found_and_signed_for(tmp_path: Path, upstream: Upstream, model: str) -> None:
    reply, _ = await asked(tmp_path, upstream, model, {"messages": [{"role": "user", "content": "Grüße"}]})
    assert reply.status == 200
    assert upstream.calls[0].target == f"/model/{quote(model, safe='')}/converse"
    check_signature(upstream.calls[0])


async def test_keys_without_a_token_sign_too(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_SESSION_TOKEN")
    await asked(tmp_path, upstream, CLAUDE, {})
    check_signature(upstream.calls[0], token=None)


async def test_a_bedrock_api_key_needs_no_signature(tmp_path: Path, upstream: Upstream) -> None:
    await asked(tmp_path, upstream, CLAUDE, {}, credentials={"AWS_BEARER_TOKEN_BEDROCK": "bedrock-api-key-x"})
    headers = upstream.calls[0].headers
    assert headers["authorization"] == "Bearer bedrock-api-key-x"
    assert "x-amz-date" not in headers


WHERE: dict[str, tuple[Body, Mapping[str, str], str]] = {
    "its option": ({"options": {"region": "ap-southeast-2"}}, {"AWS_REGION": "us-east-1"}, "ap-southeast-2"),
    "the environment": ({"options": {}}, {"AWS_REGION": "us-west-2"}, "us-west-2"),
    "the environment's default": ({"options": {}}, {"AWS_DEFAULT_REGION": "us-east-2"}, "us-east-2"),
}


@pytest.mark.parametrize("case", WHERE)
async def test_the_region_is_told_by(tmp_path: Path, upstream: Upstream, case: str) -> None:
    fields, environment, region = WHERE[case]
    upstream.script = answering(ANSWER)
    async with gateways.serve(tmp_path, provider(upstream) | fields, credentials=environment) as gateway:
        assert (await gateway.plain()).status == 200
    assert f"/{region}/bedrock/" in read_signature(upstream.calls[0]).scope + "/"
    check_signature(upstream.calls[0], region=region)


async def test_without_credentials_the_request_moves_on(
    tmp_path: Path, upstream: Upstream, second: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    second.script = answering({**ANSWER})
    rows = provider(upstream), provider(second, name="second", priority=2)
    key = {"SECOND_API_KEY": "bedrock-api-key-x"}
    async with gateways.serve(
        tmp_path, rows[0], rows[1] | {"api_key_env": "SECOND_API_KEY"}, credentials=key
    ) as gateway:
        reply = await gateway.plain()
        assert reply.status == 200
        problems = dict(await gateway.house.registry.examine())
    assert not upstream.calls
    assert "there are no AWS credentials: set AWS_ACCESS_KEY_ID" in str(problems["first"])


async def test_a_key_that_has_expired_is_fetched_anew(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", upstream.url.removesuffix("/v1") + "/credentials")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "container-token")
    handed_out = 0

    async def script(call: Call) -> None:
        nonlocal handed_out
        if call.target == "/credentials":
            assert call.headers["authorization"] == "container-token"
            handed_out += 1
            key = {"AccessKeyId": f"ASIA{handed_out}", "SecretAccessKey": "s", "Token": "t"}
            call.answer({**key, "Expiration": "2099-01-01T00:00:00Z"})
        elif read_signature(call).id == "ASIA1":
            said = {"message": "The security token included in the request is expired"}
            call.answer(said, 403, x_amzn_errortype="ExpiredTokenException:http://internal.amazon.com/")
        else:
            call.answer(ANSWER)

    upstream.script = script
    async with gateways.serve(tmp_path, provider(upstream)) as gateway:
        first = await gateway.plain()
        replies = await asyncio.gather(*(gateway.plain() for _ in range(5)))
    assert (first.status, first.error["message"]) == (502, "first does not accept our credential")
    assert [reply.status for reply in replies] == [200] * 5
    assert handed_out == 2, "those who wait at the same time wait for the same key"


@pytest.mark.parametrize("case", REQUESTS)
async def test_what_is_said_in_openais_words_is_told_in_converses(
    tmp_path: Path, upstream: Upstream, case: str
) -> None:
    model, body, told, dropped = REQUESTS[case]
    reply, sent = await asked(tmp_path, upstream, model, body)
    assert reply.status == 200, reply.body
    assert sent == {"messages": [HELLO], **told}
    assert reply.headers.get("x-penstock-dropped", "") == dropped
    check_request(sent, model)


CALLED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "functions.time:0", "type": "function", "function": {"name": "time", "arguments": ""}}],
}
RESULT = {"role": "tool", "tool_call_id": "functions.time:0", "content": ""}
TURNS = [{"role": "user", "content": "Hello"}, CALLED, RESULT]


@pytest.mark.parametrize(
    ("model", "id"), [(CLAUDE, "functions_time_0"), ("moonshot.kimi-k2-thinking", "functions.time:0")]
)
async def test_the_id_of_a_call_is_kept_where_the_model_takes_it(
    tmp_path: Path, upstream: Upstream, model: str, id: str
) -> None:
    _, sent = await asked(tmp_path, upstream, model, {"messages": TURNS})
    _, said, heard = sent["messages"]
    assert said["content"] == [{"toolUse": {"toolUseId": id, "name": "time", "input": {}}}]
    assert heard["content"] == [{"toolResult": {"toolUseId": id, "content": []}}]
    check_request(sent, model)


async def test_tools_of_the_past_are_declared_although_none_may_be_used(tmp_path: Path, upstream: Upstream) -> None:
    tools = {"tools": [{"type": "function", "function": {"name": "time"}}], "tool_choice": "none"}
    reply, sent = await asked(tmp_path, upstream, CLAUDE, {"messages": TURNS, **tools})
    assert sent["toolConfig"] == {"tools": TOOLS["toolConfig"]["tools"][1:]}
    assert reply.headers["x-penstock-dropped"] == "tool_choice"


async def test_thoughts_that_were_not_sent_back_let_the_model_go_on_without(tmp_path: Path, upstream: Upstream) -> None:
    reply, sent = await asked(tmp_path, upstream, CLAUDE, {"messages": TURNS, "reasoning_effort": "low"})
    assert "additionalModelRequestFields" not in sent
    assert reply.headers["x-penstock-dropped"] == "reasoning_effort"
    kept = {**CALLED, "thinking_blocks": [{"type": "thinking", "thinking": "", "signature": "c2ln"}]}
    body = {"messages": [TURNS[0], kept, RESULT], "reasoning_effort": "low"}
    _, sent = await asked(tmp_path, upstream, CLAUDE, body)
    assert sent["additionalModelRequestFields"]["thinking"] == {"type": "enabled", "budget_tokens": 4096}


async def test_the_houses_bound_holds_where_the_caller_names_none(tmp_path: Path, upstream: Upstream) -> None:
    counted = {"key": {"tokens_per_minute": 100_000}, "max_tokens": 3000}
    _, sent = await asked(tmp_path, upstream, CLAUDE, {}, limits=counted)
    assert sent["inferenceConfig"] == {"maxTokens": 3000}


def saying(*parts: Body) -> Body:
    return {"messages": [{"role": "user", "content": list(parts)}]}


REFUSED: dict[str, tuple[Body, str, str]] = {
    "sound": (saying({"type": "input_audio"}), "messages.0.content.0", "takes no part of type"),
    "an image elsewhere": (
        saying({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}),
        "messages.0.content.0",
        "fetches nothing: send it as data:image/png;base64",
    ),
    "an image of a kind that there is not": (
        saying({"type": "image_url", "image_url": {"url": "data:image/tiff;base64,AAAA"}}),
        "messages.0.content.0",
        "takes no image/tiff; it takes image/png, image/jpeg",
    ),
    "a file elsewhere": (
        saying({"type": "file", "file": {"file_id": "file-1"}}),
        "messages.0.content.0",
        "takes no part of type",
    ),
    "a result of no call": ({"messages": [{"role": "tool", "content": "4"}]}, "messages.0.tool_call_id", "needs an id"),
    "a role of old": (
        {"messages": [{"role": "function", "name": "f", "content": "4"}]},
        "messages.0.role",
        "has no role 'function'",
    ),
    "a custom tool": ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools.0", "calls functions"),
    "thinking that is no object": ({"thinking": True}, "thinking", "must be an object"),
    "fields that are no object": (
        {"additionalModelRequestFields": 5},
        "additionalModelRequestFields",
        "must be an object",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_cannot_be_said_in_converse_is_refused_by_its_name(
    tmp_path: Path, upstream: Upstream, case: str
) -> None:
    body, param, message = REFUSED[case]
    reply, sent = await asked(tmp_path, upstream, CLAUDE, body)
    assert reply.status == 400
    assert (reply.error["param"], reply.error["code"]) == (param, "invalid_request")
    assert message in reply.error["message"]
    assert not sent


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/embeddings"])
async def test_endpoints_that_converse_does_not_have(tmp_path: Path, upstream: Upstream, path: str) -> None:
    async with gateways.serve(tmp_path, provider(upstream)) as gateway:
        reply = await gateway.plain(path, prompt="Once", input="x")
    assert (reply.status, reply.error["param"]) == (400, "model")
    assert "chat completions" in reply.error["message"]
    assert not upstream.calls


async def test_models_are_found(tmp_path: Path, upstream: Upstream) -> None:
    life = {"modelLifecycle": {"status": "ACTIVE", "startOfLifeTime": "2024-12-03T00:00:00Z"}}
    on_demand = {"inferenceTypesSupported": ["ON_DEMAND"], **life}
    foundation = [
        {"modelId": "amazon.nova-lite-v1:0", **on_demand},
        {"modelId": CLAUDE.removeprefix("eu."), "inferenceTypesSupported": ["INFERENCE_PROFILE"]},
        {"modelId": "a.new-v1:0", "modelLifecycle": [], "inferenceTypesSupported": 7},
    ]
    profiles = [
        {"inferenceProfileId": CLAUDE, "createdAt": "2025-09-29T00:00:00Z"},
        {"inferenceProfileId": "eu.stability.stable-image-v1:0"},
        {"inferenceProfileId": 5},
    ]

    async def script(call: Call) -> None:
        check_signature(call)
        found = call.target.startswith("/foundation-models")
        call.answer({"modelSummaries": foundation} if found else {"inferenceProfileSummaries": profiles})

    upstream.script = script
    async with gateways.serve(tmp_path, provider(upstream) | {"models": []}) as gateway:
        found = (await models(gateway))["data"]
    assert [(model["id"], model["created"]) for model in found] == [
        ("amazon.nova-lite-v1:0", 1733184000),
        (CLAUDE, 1759104000),
    ]
    assert {call.target for call in upstream.calls} == {
        "/foundation-models?byOutputModality=TEXT",
        "/inference-profiles?maxResults=1000&type=SYSTEM_DEFINED",
    }


async def test_a_place_is_looked_at_without_a_right_to_list_models(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script = answering({"Output": {"__type": "UnknownOperationException"}}, 404)
    async with gateways.serve(tmp_path, provider(upstream)) as gateway:
        (place,) = await gateway.house.registry.candidates(MODEL)
        connection = gateway.house.registry.connection(place)
        await connection.probe(asyncio.get_running_loop().time() + 5)
        check_signature(upstream.calls[0])
        upstream.script = answering({"message": "Full."}, 503)
        with pytest.raises(UpstreamError, match=r"first: Full\."):
            await connection.probe(asyncio.get_running_loop().time() + 5)


async def models(gateway: Gateway) -> Body:
    """What the gateway lists."""
    found: Body = json.loads((await gateway.client.get("/v1/models")).content)
    return found
