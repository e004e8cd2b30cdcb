"""What there is, as a caller is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.app import App
from penstock.bootstrap import build
from penstock.core.keys import generate, new_key
from penstock.errors import UpstreamUnavailable
from penstock.schema.config import Document, Logging, Provider
from penstock.schema.request import CHAT
from penstock.settings import Settings

PROVIDERS = [
    Provider("echo", "simulated", models=["one", "two"], options={"ttft": 0, "tokens_per_second": 0}),
    Provider("spare", "simulated", models=["one"], priority=2, forced=False),
    Provider("off", "openai", models=["three"], enabled=False),
]


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    document = Document(logging=Logging(level="ERROR"), providers=PROVIDERS)
    app = App(lambda: build(Settings(state_url=f"sqlite:///{tmp_path}/state.db", document=document)))
    await app.open()
    yield app
    await app.close()


@pytest.fixture
async def client(app: App) -> AsyncIterator[httpx.AsyncClient]:
    """A caller with a key, from somewhere."""
    key = generate()
    await (await app.open()).store.create_key(new_key(key))
    transport = httpx.ASGITransport(app=app, client=("203.0.113.9", 4711))  # type: ignore[arg-type]
    headers = {"authorization": f"Bearer {key.reveal()}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers) as client:
        yield client


async def told(client: httpx.AsyncClient, path: str) -> Any:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def break_down(app: App, provider: str) -> None:
    """Let every place of a provider fail until it is left alone."""
    house = await app.open()
    for deployment in await house.registry.places():
        if deployment.provider == provider:
            for _ in range(5):
                place = house.gateway.router.place(deployment)
                place.began()
                place.ended(UpstreamUnavailable("x"), CHAT)


async def test_providers_tell_how_they_are(app: App, client: httpx.AsyncClient) -> None:
    echo, spare, off = (await told(client, "/providers"))["data"]
    assert (echo["name"], echo["type"], echo["status"], echo["models"]) == (
        "echo", "simulated", "healthy", ["one", "two"],
    )  # fmt: skip
    assert (spare["priority"], spare["forced"], spare["enabled"]) == (2, False, True)
    assert off == {"name": "off", "type": "openai", "status": "disabled", "enabled": False}
    await break_down(app, "spare")
    assert [provider["status"] for provider in (await told(client, "/providers"))["data"]] == [
        "healthy", "unhealthy", "disabled",
    ]  # fmt: skip


async def test_services_and_stats_are_infinilms(app: App, client: httpx.AsyncClient) -> None:
    for _ in range(3):
        body = {"model": "one", "messages": [{"role": "user", "content": "hi"}]}
        assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
    await break_down(app, "spare")
    assert await told(client, "/services") == {
        "services": [
            {"name": "echo", "url": "", "healthy": True, "models": ["one", "two"]},
            {"name": "spare", "url": "", "healthy": False, "models": ["one"]},
        ],
        "total": 2,
    }
    stats = await told(client, "/stats")
    assert (stats["total_services"], stats["healthy_services"]) == (2, 1)
    echo, spare = stats["services"]
    assert (echo["request_count"], echo["error_count"]) == (3, 0)
    assert 0 <= echo["response_time"] < 5
    assert (spare["request_count"], spare["error_count"], spare["response_time"]) == (5, 5, None)


async def test_a_refresh_tells_what_changed(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/registry/refresh")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "refreshed", "version": 1, "models": ["one", "two"],
        "added": [], "removed": [], "changed": [], "failed": [], "hardware": [],
    }  # fmt: skip


@pytest.mark.parametrize(("method", "path"), [
    ("POST", "/v1/registry/refresh"), ("GET", "/providers"), ("GET", "/services"), ("GET", "/stats"),
])  # fmt: skip
async def test_nobody_is_told_without_a_key(client: httpx.AsyncClient, method: str, path: str) -> None:
    assert (await client.request(method, path, headers={"authorization": ""})).status_code == 401
