"""`GET /health`: all that the earlier systems showed, to those who may see it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock import __version__
from penstock.app import App
from penstock.bootstrap import build
from penstock.errors import StateError, UpstreamUnavailable
from penstock.house import House
from penstock.schema.config import Auth, CircuitBreaker, Document, Logging, Provider
from penstock.schema.notice import DOWN, HEALTH
from penstock.schema.request import CHAT
from penstock.settings import Settings

INSIDE, OUTSIDE = "127.0.0.1", "203.0.113.9"
PROVIDERS = [
    Provider("echo", "simulated", models=["two", "one"]),
    Provider("spare", "simulated", models=["one", "three"], priority=2),
    Provider("off", "openai", models=["four"], enabled=False),
]


def app_with(folder: Path, mode: Any = "keys") -> App:
    document = Document(
        auth=Auth(mode=mode),
        logging=Logging(level="ERROR"),
        providers=PROVIDERS,
        circuit_breaker=CircuitBreaker(failure_threshold=1, recovery_timeout=0.01),
    )
    return App(lambda: build(Settings(state_url=f"sqlite:///{folder}/state.db", document=document)))


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    app = app_with(tmp_path)
    await app.open()
    yield app
    await app.close()


async def ask(app: App, address: str = INSIDE) -> httpx.Response:
    transport = httpx.ASGITransport(app=app, client=(address, 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        return await client.get("/health")


async def down(house: House, provider: str) -> None:
    """Let a look find a provider down."""
    [place] = [place for place in house.registry.providers() if place.provider == provider]
    house.gateway.router.tell(place, HEALTH, DOWN, 60)


async def test_everything_that_the_documents_promise_is_there(app: App) -> None:
    before = time.time()
    answer = await ask(app)
    told = answer.json()
    assert answer.status_code == 200
    assert (told["status"], told["health_score"], told["version"]) == ("healthy", 100.0, __version__)
    assert before <= told["timestamp"] <= time.time()
    assert told["timestamp_iso"].endswith("+00:00")
    assert 0 < told["response_time"] < 60
    assert (told["router"], told["healthy_services"]) == ("running", "2/2")
    assert (told["backend"], told["model"], told["model_loaded"]) == ("simulated", "two", True)
    assert told["available_models"] == ["one", "three", "two"]
    assert told["redis_connected"] is None
    assert told["providers"] == {"total": 3, "healthy": 2, "degraded": 0, "unhealthy": 0, "disabled": 1}
    assert set(told["system"]) == {"cpu_percent", "memory_percent", "memory_used_mb", "disk_percent"}
    assert all(0 <= told["system"][name] <= 100 for name in ("cpu_percent", "memory_percent", "disk_percent"))
    assert 10 < told["system"]["memory_used_mb"] < 10_000
    assert told["alerts"] == {"active": 0, "critical": 0, "warning": 0}


async def test_strangers_see_whether_it_works_and_no_more(app: App, tmp_path: Path) -> None:
    assert (await ask(app, OUTSIDE)).json() == {"status": "healthy", "version": __version__}
    await down(await app.open(), "echo")
    assert (await ask(app, OUTSIDE)).json() == {"status": "degraded", "version": __version__}
    open_to_all = app_with(tmp_path / "open", "none")
    assert "system" in (await ask(open_to_all, OUTSIDE)).json()
    await open_to_all.close()


async def test_a_provider_that_is_down_degrades_it_and_takes_its_models_away(app: App) -> None:
    await down(await app.open(), "echo")
    told = (await ask(app)).json()
    assert (told["status"], told["health_score"], told["healthy_services"]) == ("degraded", 50.0, "1/2")
    assert told["available_models"] == ["one", "three"]
    assert told["providers"]["unhealthy"] == 1


async def test_a_provider_that_is_tried_again_is_degraded(app: App) -> None:
    house = await app.open()
    router = house.gateway.router
    for deployment in await house.registry.places():
        if deployment.provider == "spare":
            router.place(deployment).began()
            router.ended(router.place(deployment), UpstreamUnavailable("x"), CHAT)
    deadline = time.monotonic() + 5
    while (told := (await ask(app)).json())["providers"]["degraded"] == 0:
        assert time.monotonic() < deadline
    assert (told["status"], told["health_score"]) == ("degraded", 75.0)


async def test_without_its_store_it_cannot_work(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away() -> None:
        raise StateError("the store is down")

    monkeypatch.setattr((await app.open()).store, "ping", away)
    answer = await ask(app)
    assert (answer.status_code, answer.json()["status"], answer.json()["health_score"]) == (503, "unhealthy", 0.0)
