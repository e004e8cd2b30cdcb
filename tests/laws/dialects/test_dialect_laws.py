"""Laws of dialects: whatever wire a route speaks, a caller finds the same manners at each of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from penstock import app, plugs
from penstock.dialects._exchange import LazyRouter, WireRouter
from tests.wire import gateway as gateways
from tests.wire import upstream as upstreams
from tests.wire.gateway import MODEL, Gateway
from tests.wire.upstream import Call, chunk

ROUTERS = {name: plugs.load("dialects", name).router for name in plugs.names("dialects")}
WIRES = {name: router for name, router in ROUTERS.items() if isinstance(router, WireRouter)}
HOT = sorted(
    path
    for router in WIRES.values()
    for _, path in router.hot
    if path.startswith("/v1/") and path != "/v1/classify"  # which calls no model
)
"""The hot routes that speak OpenAI's wire; others have tests of their own in tests/contract."""

BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hello"}]},
    "/v1/completions": {"prompt": "Hello"},
    "/v1/embeddings": {"input": "Hello"},
    "/v1/images/generations": {"prompt": "Hello"},
}
"""A good body for each hot route; a new route brings its own."""

STREAMING = [path for path in HOT if "completions" in path]

routes = pytest.mark.parametrize("path", HOT)
streaming_routes = pytest.mark.parametrize("path", STREAMING)


def test_a_function_that_starts_for_a_hot_route_imports_just_those_dialects_that_have_any() -> None:
    hot = {name for name, router in ROUTERS.items() if isinstance(router, WireRouter) or _formed(router)}
    assert hot == set(app.HOT)


def _formed(router: object) -> bool:
    return isinstance(router, LazyRouter) and router.form is not None


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway whose model is simulated."""
    models = [{"name": MODEL, "upstream": "echo"}]
    async with gateways.serve(tmp_path, {"name": "first", "type": "simulated", "models": models}) as gateway:
        yield gateway


def test_every_hot_route_is_put_to_these_laws() -> None:
    assert sorted(BODIES) == HOT


@pytest.mark.parametrize("name", ROUTERS)
def test_every_dialect_is_a_router(name: str) -> None:
    router = ROUTERS[name]
    assert isinstance(router, LazyRouter), "one that makes its routes at import adds a tenth to a function's cold start"
    router.make()
    assert router.routes


@routes
async def test_nobody_comes_in_without_a_key(gateway: Gateway, path: str) -> None:
    for key in ("", "Bearer wrong"):
        gateway.client.headers["authorization"] = key
        reply = await gateway.plain(path, **BODIES[path])
        assert reply.status == 401
        assert reply.error["code"] == "invalid_api_key"
    assert not await gateway.house.store.list_outcomes()


@routes
async def test_an_answer_says_who_gave_it(gateway: Gateway, path: str) -> None:
    reply = await gateway.plain(path, **BODIES[path])
    assert reply.status == 200
    assert reply.json.get("model", MODEL) == MODEL, "of images OpenAI names no model"
    assert reply.headers["x-penstock-deployment"] == f"first/{MODEL}"
    assert reply.headers["x-penstock-attempts"] == "1"
    outcome = await gateway.outcome()
    assert outcome.request_id == reply.headers["x-request-id"]
    assert (outcome.ended, f"/v1/{outcome.endpoint}") == ("ok", path)


@streaming_routes
async def test_a_stream_says_who_gives_it_and_when_it_is_whole(gateway: Gateway, path: str) -> None:
    reply = await gateway.stream(path, **BODIES[path])
    assert reply.whole
    assert reply.payloads[-1] == b"[DONE]"
    assert {event["model"] for event in reply.events} == {MODEL}
    assert reply.headers["x-penstock-deployment"] == f"first/{MODEL}"


@routes
async def test_a_failure_has_the_form_of_an_error(gateway: Gateway, path: str) -> None:
    for options in ({}, {"stream": True}) if path in STREAMING else ({},):
        reply = await gateway.plain(path, **BODIES[path], **options, simulate={"error": 500})
        assert reply.status == 502
        assert reply.error.keys() >= {"message", "type", "param", "code"}
        assert reply.json["detail"] == reply.error["message"]
        assert reply.json["timestamp"] > 0
        assert reply.headers["x-request-id"]


@streaming_routes
async def test_a_stream_that_breaks_ends_with_an_error_event(gateway: Gateway, path: str) -> None:
    broken = {"cut_after": 1, "tokens_per_second": 50, "tokens": 5}
    assert (await gateway.stream(path, **BODIES[path], simulate=broken)).failed_with()


@routes
async def test_a_model_that_does_not_exist_is_not_found(gateway: Gateway, path: str) -> None:
    reply = await gateway.plain(path, **{**BODIES[path], "model": "nobody"})
    assert (reply.status, reply.error["code"], reply.error["param"]) == (404, "model_not_found", "model")


async def test_embeddings_are_not_streamed_whatever_the_body_says(tmp_path: Path) -> None:
    answer = {"object": "list", "model": "engine-1", "data": [{"index": 0, "embedding": [0.5]}]}
    async with (
        upstreams.serve(upstreams.answering(answer)) as upstream,
        gateways.serve(tmp_path, gateways.provider(upstream.url)) as gateway,
    ):
        reply = await gateway.plain("/v1/embeddings", input="x", stream=True)
    assert reply.status in (200, 400)


@pytest.mark.parametrize("name", ["a\nb", "a\r\nx-evil: 1", "x" * 100_000])
@streaming_routes
async def test_dropped_fields_of_any_name_are_told_within_reason(tmp_path: Path, path: str, name: str) -> None:
    async def engine(call: Call) -> None:
        if call.method == "GET":
            call.answer({"is_generation": True})
        else:
            call.stream(chunk("Hello"), chunk(finish="stop"))

    async with (
        upstreams.serve(engine) as upstream,
        gateways.serve(tmp_path, gateways.provider(upstream.url, type="sglang")) as gateway,
    ):
        for stream in (True, False):
            reply = await gateway.plain(path, **BODIES[path], stream=stream, **{name: 1})
            assert reply.status == 200
            assert "x-evil" not in reply.headers
            assert 0 < len(reply.headers["x-penstock-dropped"]) < 10_000
