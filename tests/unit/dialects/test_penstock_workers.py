"""Workers over HTTP: who may register, what an operator sees, and where requests go."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.app import App
from penstock.bootstrap import build
from penstock.core import fleet
from penstock.core.json import to_json
from penstock.core.keys import new_key
from penstock.schema.config import Document, Logging, Provider
from penstock.schema.secret import Secret
from penstock.settings import Settings
from tests.unit.memory import Clock

SECRET = Secret("a-secret-of-the-fleet")
PLAIN = {
    "id": "gpu-1",
    "generation": "g1",
    "url": "http://10.0.0.5:30000",
    "models": ["llama"],
    "engine_version": "0.5.23",
    "gpu": {"name": "NVIDIA H200", "memory": 143771, "count": 8},
    "load": {"running": 1, "waiting": 0, "kv_use": 0.25, "capacity": 64},
}


class Workers:
    """A gateway, spoken to by workers and by an operator."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def send(self, method: str, path: str, body: Any = None, *, signed: str | None = None) -> httpx.Response:
        """One request from a trusted address, with this signature if there is one."""
        headers = {"content-type": "application/json"} | ({"x-penstock-signature": signed} if signed else {})
        transport = httpx.ASGITransport(app=self.app, client=("127.0.0.1", 4711))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return await client.request(method, path, content=to_json(body), headers=headers)

    async def say(self, path: str, body: Any, secret: Secret = SECRET, *, ago: int = 0) -> httpx.Response:
        """What a worker of the fleet says, ``ago`` seconds ago."""
        signature = fleet.sign(secret, "POST", path, to_json(body), int(time.time()) - ago)
        return await self.send("POST", path, body, signed=signature)


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[Workers]:
    document = Document(logging=Logging(level="ERROR"), providers=[])
    settings = Settings(state_url=f"sqlite:///{tmp_path}/state.db", document=document, fleet_secret=SECRET)
    app = App(lambda: build(settings))
    await app.open()
    yield Workers(app)
    await app.close()


async def places(workers: Workers, model: str = "llama") -> list[str]:
    """Where requests of a model would go."""
    house = await workers.app.open()
    return [f"{place.id} at {place.base_url}" for place in await house.registry.candidates(model)]


async def test_a_worker_registers_and_requests_go_to_it(workers: Workers) -> None:
    answer = await workers.say("/v1/workers", PLAIN)
    assert answer.status_code == 201, answer.text
    told = answer.json()
    assert (told["id"], told["state"], told["heartbeat"]) == ("gpu-1", "ready", 10)
    assert 29 < told["lease_until"] - time.time() <= 30
    assert await places(workers) == ["gpu-1/llama at http://10.0.0.5:30000/v1"]
    models = (await (await workers.app.open()).registry.cards())[0]
    assert (models.id, models.owned_by, models.provider_type) == ("llama", "workers", "sglang")


async def test_an_operator_sees_what_it_is_and_has_to_do(workers: Workers) -> None:
    await workers.say("/v1/workers", PLAIN)
    await workers.say("/v1/workers/gpu-1/heartbeat", {"generation": "g1", "load": {"running": 64, "waiting": 3}})
    [worker] = (await workers.send("GET", "/v1/workers")).json()["data"]
    assert worker["state"] == "busy"
    assert worker["gpu"] == PLAIN["gpu"]
    assert worker["load"] == {"running": 64, "waiting": 3, "kv_use": 0, "capacity": 0}


async def test_what_is_not_signed_by_the_fleet_is_refused(workers: Workers) -> None:
    signature = fleet.sign(SECRET, "POST", "/v1/workers", to_json(PLAIN), int(time.time()))
    refused = [
        await workers.send("POST", "/v1/workers", PLAIN),
        await workers.send("POST", "/v1/workers", PLAIN, signed="t=1,v1=0"),
        await workers.send("POST", "/v1/workers", PLAIN, signed="nonsense"),
        await workers.send("POST", "/v1/workers", {**PLAIN, "url": "http://10.6.6.6:1"}, signed=signature),
        await workers.send("POST", "/v1/workers/gpu-1/heartbeat", PLAIN, signed=signature),
        await workers.say("/v1/workers", PLAIN, Secret("another-secret-of-a-fleet")),
        await workers.say("/v1/workers", PLAIN, ago=61),
        await workers.say("/v1/workers", PLAIN, ago=-62),
    ]
    assert [answer.status_code for answer in refused] == [401] * len(refused)
    assert (await workers.send("GET", "/v1/workers")).json()["data"] == []


async def test_without_a_secret_there_is_no_fleet(tmp_path: Path) -> None:
    settings = Settings(state_url=f"sqlite:///{tmp_path}/state.db", document=Document(logging=Logging(level="ERROR")))
    app = App(lambda: build(settings))
    answer = await Workers(app).say("/v1/workers", PLAIN)
    assert (answer.status_code, answer.json()["error"]["code"]) == (501, "not_configured")
    assert "PENSTOCK_FLEET_SECRET" in answer.json()["detail"]
    await app.close()


async def test_an_unknown_worker_is_told_to_register(workers: Workers) -> None:
    assert (await workers.say("/v1/workers/gpu-1/heartbeat", {"generation": "g1"})).status_code == 404
    await workers.say("/v1/workers", PLAIN)
    assert (await workers.say("/v1/workers/gpu-1/heartbeat", {"generation": "g0"})).status_code == 404
    assert (await workers.say("/v1/workers/gpu-1/heartbeat", {"generation": "g1"})).status_code == 200


@pytest.mark.parametrize("by_itself", [True, False])
async def test_a_draining_worker_is_sent_nothing(workers: Workers, by_itself: bool) -> None:
    await workers.say("/v1/workers", PLAIN)
    path = "/v1/workers/gpu-1/drain"
    answer = await (workers.say(path, {}) if by_itself else workers.send("POST", path))
    assert (answer.status_code, answer.json()["state"]) == (200, "draining")
    told = await workers.say("/v1/workers/gpu-1/heartbeat", {"generation": "g1"})
    assert told.json()["state"] == "draining"
    refused = await chat(workers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "provider_unavailable")
    trail = (await workers.send("GET", "/api/v1/audit")).json()["data"]
    assert [act["action"] for act in trail] == ([] if by_itself else ["drain worker"])


async def test_a_worker_whose_lease_is_over_is_gone(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    await workers.say("/v1/workers", PLAIN)
    assert await places(workers)
    clock = Clock()
    clock.now = time.time() + 30
    monkeypatch.setattr(fleet, "time", clock)
    assert (await chat(workers)).status_code == 503


async def test_a_worker_that_comes_back_elsewhere_is_called_there(workers: Workers) -> None:
    await workers.say("/v1/workers", PLAIN)
    await workers.say("/v1/workers", {**PLAIN, "generation": "g2", "url": "http://10.0.0.6:30000"})
    assert await places(workers) == ["gpu-1/llama at http://10.0.0.6:30000/v1"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"id": ""}, "id"),
        ({"id": "a/b"}, "id"),
        ({"url": "file:///etc/passwd"}, "url"),
        ({"url": "http://10.0.0.5:30000/v1?x=1"}, "url"),
        ({"models": []}, "models"),
        ({"models": ["two words"]}, "models"),
        ({"engine": "unknown"}, "engine"),
        ({"gpu": {"memory": -1}}, "gpu.memory"),
        ({"load": {"kv_use": 1.5}}, "load.kv_use"),
        ({"extra": 1}, "extra"),
    ],
)
async def test_a_wrong_field_is_named(workers: Workers, body: dict[str, Any], param: str) -> None:
    answer = await workers.say("/v1/workers", {**PLAIN, **body})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def chat(workers: Workers) -> httpx.Response:
    """A chat request of a caller."""
    house = await workers.app.open()
    secret = Secret("a-callers-key")
    if await house.store.find_key(secret.sha256()) is None:
        await house.store.create_key(new_key(secret))
    transport = httpx.ASGITransport(app=workers.app, client=("127.0.0.1", 4711))  # type: ignore[arg-type]
    body = {"model": "llama", "messages": [{"role": "user", "content": "hi"}]}
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        return await client.post("/v1/chat/completions", json=body, headers={"authorization": "Bearer a-callers-key"})


async def test_where_no_worker_is_ready_whoever_else_serves_the_model_does(tmp_path: Path) -> None:
    vendor = Provider("vendor", "openai", base_url="http://127.0.0.1:9/v1", models=["llama"], priority=2)
    document = Document(logging=Logging(level="ERROR"), providers=[vendor])
    app = App(
        lambda: build(Settings(state_url=f"sqlite:///{tmp_path}/state.db", document=document, fleet_secret=SECRET))
    )
    workers = Workers(app)
    await workers.say("/v1/workers", PLAIN)
    assert await places(workers) == ["gpu-1/llama at http://10.0.0.5:30000/v1", "vendor/llama at http://127.0.0.1:9/v1"]
    await workers.say("/v1/workers/gpu-1/drain", {})
    assert await places(workers) == ["vendor/llama at http://127.0.0.1:9/v1"]
    await app.close()
