"""Providers and their models over HTTP: what is told of them, and which of them are served."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.app import App
from penstock.bootstrap import build
from penstock.core.keys import generate, new_key
from penstock.errors import UpstreamUnavailable
from penstock.schema.config import Document, Logging, PriceRow, Provider
from penstock.schema.request import CHAT as CHAT_COMPLETIONS
from penstock.settings import Settings

INSIDE, OUTSIDE = "10.1.2.3", "203.0.113.9"
FAST: dict[str, float] = {"ttft": 0, "tokens_per_second": 0}
PROVIDERS = [
    Provider("echo", "simulated", models=["gpt-4", "org/two"], forced=True, options=FAST),
    Provider("spare", "simulated", models=["gpt-4"], priority=2, options=FAST),
    Provider("found", "simulated", options=FAST),
    Provider("gone", "openai", base_url="http://127.0.0.1:9/v1"),
    Provider("off", "openai", models=["three"], enabled=False),
]
CHAT = {"messages": [{"role": "user", "content": "one two three four"}]}


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    prices = [PriceRow("echo", "gpt-4", input=30, output=60)]
    document = Document(logging=Logging(level="ERROR"), providers=PROVIDERS, prices=prices)
    state, queue = (f"sqlite:///{tmp_path}/{name}.db" for name in ("state", "queue"))
    app = App(lambda: build(Settings(state_url=state, queue_url=queue, document=document)))
    await app.open()
    yield app
    await app.close()


def at(app: App, address: str, key: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, client=(address, 4711))  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=transport, base_url="http://gateway", headers={"authorization": f"Bearer {key}"})


async def keyed(app: App, **fields: Any) -> str:
    key = generate()
    await (await app.open()).store.create_key(new_key(key, **fields))
    return key.reveal()


@pytest.fixture
async def client(app: App) -> AsyncIterator[httpx.AsyncClient]:
    """A caller with a key, inside of a trusted network."""
    async with at(app, INSIDE, await keyed(app)) as client:
        yield client


async def told(client: httpx.AsyncClient, path: str) -> Any:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def select(client: httpx.AsyncClient, provider: str = "echo", **body: Any) -> httpx.Response:
    return await client.put(f"/v1/providers/{provider}/model_selection", json=body)


async def names(client: httpx.AsyncClient) -> list[str]:
    return [model["id"] for model in (await told(client, "/v1/models"))["data"]]


# what is told of models


async def test_an_entry_tells_all_that_is_known_of_a_model(client: httpx.AsyncClient) -> None:
    entry = (await told(client, "/v1/models"))["data"][0]
    created = entry.pop("created")
    assert abs(created - time.time()) < 60
    assert entry == {
        "id": "gpt-4", "object": "model", "owned_by": "echo", "provider_type": "simulated", "status": "healthy",
        "enabled": True, "forced": True, "context_window": 8192, "max_tokens": 4096,
        "capabilities": ["chat", "tools"], "pricing": {"input": 30.0, "cached_input": 30.0, "output": 60.0},
        "providers": ["echo", "spare"],
    }  # fmt: skip
    assert await told(client, "/v1/models/gpt-4") == {**entry, "created": created}


async def test_what_a_provider_lists_is_told(client: httpx.AsyncClient) -> None:
    entry = await told(client, "/v1/models/simulated/echo")
    assert (entry["owned_by"], entry["capabilities"]) == (
        "found",
        [*("chat", "completions", "embeddings", "images", "tools")],
    )
    assert "context_window" not in entry


async def test_a_model_whose_places_are_all_broken_is_unhealthy(app: App, client: httpx.AsyncClient) -> None:
    house = await app.open()
    for deployment in await house.registry.places():
        if deployment.model == "org/two":
            for _ in range(5):
                place = house.gateway.router.place(deployment)
                place.began()
                place.ended(UpstreamUnavailable("x"), CHAT_COMPLETIONS)
    models = {model["id"]: model["status"] for model in (await told(client, "/v1/models"))["data"]}
    assert models == {"gpt-4": "healthy", "org/two": "unhealthy", "simulated/echo": "healthy"}
    statuses = {model["id"]: model["status"] for model in (await told(client, "/v1/providers/echo/models"))["data"]}
    assert statuses == {"gpt-4": "active", "org/two": "unhealthy"}


async def test_a_pinned_key_is_told_of_its_providers_alone(app: App) -> None:
    async with at(app, OUTSIDE, await keyed(app, providers=("spare",))) as pinned:
        [entry] = (await told(pinned, "/v1/models"))["data"]
        assert (entry["id"], entry["owned_by"], entry["forced"]) == ("gpt-4", "spare", False)
        assert entry["providers"] == ["spare"]
        assert (await told(pinned, "/v1/providers/echo/models"))["data"] == []


# what is told of providers


async def test_both_addresses_list_providers(client: httpx.AsyncClient) -> None:
    listed = await told(client, "/v1/providers")
    assert [provider["name"] for provider in listed["data"]] == ["echo", "spare", "off"]
    assert listed == await told(client, "/providers")


async def test_a_provider_lists_its_models(client: httpx.AsyncClient) -> None:
    listed = await told(client, "/v1/providers/echo/models")
    assert {name: listed[name] for name in ("object", "provider", "total", "cached", "last_refresh")} == {
        "object": "list", "provider": "echo", "total": 2, "cached": True, "last_refresh": None,
    }  # fmt: skip
    entry = listed["data"][0]
    assert {name: entry[name] for name in ("id", "object", "owned_by", "provider", "status", "capabilities")} == {
        "id": "gpt-4", "object": "model", "owned_by": "echo", "provider": "echo", "status": "active",
        "capabilities": ["chat", "tools"],
    }  # fmt: skip
    assert (entry["context_window"], entry["max_tokens"], entry["enabled"]) == (8192, 4096, True)


async def test_one_model_of_a_provider_may_have_slashes_in_its_name(client: httpx.AsyncClient) -> None:
    assert (await told(client, "/v1/providers/echo/models/org/two"))["id"] == "org/two"
    unknown = await client.get("/v1/providers/echo/models/org/three")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    assert "has no model 'org/three'; GET /v1/providers/echo/models lists" in unknown.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/providers/nobody/models"),
        ("GET", "/v1/providers/nobody/models/x"),
        ("GET", "/v1/providers/nobody/model_selection"),
        ("PUT", "/v1/providers/nobody/model_selection"),
        ("POST", "/v1/providers/nobody/models/refresh"),
    ],
)
async def test_an_unknown_provider_is_not_found(client: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await client.request(method, path, json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert answer.json()["error"]["message"] == "There is no provider 'nobody'; there are echo, found, gone, spare."


async def test_a_refresh_asks_the_provider_and_tells_what_is_new(client: httpx.AsyncClient) -> None:
    assert (await told(client, "/v1/providers/found/models"))["data"] == []
    answer = await client.post("/v1/providers/found/models/refresh")
    assert answer.status_code == 200
    listed = answer.json()
    assert (listed["added"], listed["removed"], listed["cached"], listed["total"]) == (["simulated/echo"], [], False, 1)
    assert abs(listed["last_refresh"] - time.time()) < 60
    again = (await client.post("/v1/providers/found/models/refresh")).json()
    assert (again["added"], again["removed"]) == ([], [])


async def test_a_provider_that_does_not_answer_is_an_error_that_says_so(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/providers/gone/models/refresh")
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_unavailable")
    whole = (await client.post("/v1/registry/refresh")).json()
    assert [failed["provider"] for failed in whole["failed"]] == ["gone"]
    assert "simulated/echo" in whole["models"], "the others have answered"


# what is served


async def test_the_documents_body_selects_one_model(client: httpx.AsyncClient) -> None:
    body = {"selected_model": "gpt-4", "editable": True, "priority": 5, "max_tokens": 2000, "temperature": 0.7}
    answer = await select(client, **body)
    assert answer.status_code == 200, answer.text
    assert {name: answer.json()[name] for name in body} == body
    assert await told(client, "/v1/providers/echo/model_selection") == answer.json()
    assert await names(client) == ["gpt-4", "simulated/echo"]
    assert (await told(client, "/v1/models/gpt-4"))["owned_by"] == "echo", "a forced one goes before every priority"
    refused = await client.post("/v1/chat/completions", json={"model": "org/two", **CHAT})
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
    listed = (await told(client, "/v1/providers/echo/models"))["data"]
    assert [(model["id"], model["status"], model["enabled"]) for model in listed] == [
        ("gpt-4", "active", True), ("org/two", "inactive", False),
    ]  # fmt: skip


async def test_a_refresh_does_not_undo_it_and_null_does(client: httpx.AsyncClient) -> None:
    await select(client, selected_model="gpt-4")
    assert (await client.post("/v1/providers/echo/models/refresh")).status_code == 200
    assert (await client.post("/v1/registry/refresh")).status_code == 200
    assert "org/two" not in await names(client)
    assert (await select(client, selected_model=None)).json()["selected_models"] is None
    assert "org/two" in await names(client)


async def test_several_may_be_selected(client: httpx.AsyncClient) -> None:
    assert (await select(client, selected_models=["gpt-4", "org/two"])).json()["selected_model"] is None
    assert await names(client) == ["gpt-4", "org/two", "simulated/echo"]


async def test_a_selection_changes_the_order_and_fills_in_what_requests_leave_open(client: httpx.AsyncClient) -> None:
    await select(client, "spare", priority=0, max_tokens=2, temperature=0.3)
    priorities = {each["name"]: each.get("priority") for each in (await told(client, "/v1/providers"))["data"]}
    assert priorities == {"echo": 1, "spare": 0, "off": None}
    await select(client, "echo", selected_model="org/two")
    answer = (await client.post("/v1/chat/completions", json={"model": "gpt-4", **CHAT})).json()
    assert (answer["usage"]["completion_tokens"], answer["choices"][0]["finish_reason"]) == (2, "length")
    own = (await client.post("/v1/chat/completions", json={"model": "gpt-4", "max_tokens": 4, **CHAT})).json()
    assert own["usage"]["completion_tokens"] == 4


async def test_a_locked_selection_is_changed_by_nobody_unawares(client: httpx.AsyncClient) -> None:
    assert (await select(client, selected_model="gpt-4", editable=False)).status_code == 200
    refused = await select(client, selected_model="org/two")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_permissions")
    assert "'editable': true" in refused.json()["error"]["message"]
    assert (await select(client, selected_model="org/two", editable=True)).status_code == 200
    assert "gpt-4" in await names(client), "the other provider serves it still"


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"selected_model": "three"}, 404, "selected_model"),
        ({"selected_models": ["gpt-4", "three"]}, 404, "selected_models"),
        ({"selected_model": "gpt-4", "selected_models": ["gpt-4"]}, 400, "selected_models"),
        ({"selected_model": 4}, 400, "selected_model"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"temperature": 3}, 400, "temperature"),
        ({"model": "gpt-4"}, 400, "model"),
    ],
)
async def test_what_cannot_be_selected_is_refused(
    client: httpx.AsyncClient, body: dict[str, Any], status: int, param: str
) -> None:
    answer = await select(client, **body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
    assert await names(client) == ["gpt-4", "org/two", "simulated/echo"]


async def test_only_administrators_select_and_it_is_written_down(app: App, client: httpx.AsyncClient) -> None:
    async with at(app, OUTSIDE, await keyed(app)) as stranger:
        assert (await select(stranger, selected_model="gpt-4")).status_code == 403
    async with at(app, OUTSIDE, await keyed(app, scopes=("admin",))) as admin:
        assert (await select(admin, selected_model="gpt-4")).status_code == 200
    acts = (await told(client, "/api/v1/audit"))["data"]
    assert [(act["action"], act["target"], act["detail"]) for act in acts] == [("select models", "echo", "gpt-4")]
