"""A real engine with its agent: the gateway learns of it, of what it does, and of its end, and loses no call by it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import Popen

import httpx
import pytest

from bench.callers import WHOLE, Callers, reasons
from tests.e2e.fleet import CONFIG, SECRET, agent, registered_at, states, workers
from tests.e2e.server import KEY, ROOT, Server, wait_for
from tests.engine.engine import KEY as ENGINE_KEY
from tests.engine.engine import PATIENCE, Engine
from tests.engine.speech import song

MODEL = "tiny"
CALLERS = 2
"""The engine runs one call and lets two wait."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gateway that knows no engine but by its agent."""
    folder = tmp_path_factory.mktemp("fleet")
    with Server(folder, CONFIG, PENSTOCK_FLEET_SECRET=SECRET, PENSTOCK_ENGINE_API_KEY=ENGINE_KEY) as server:
        yield server


@contextmanager
def registered(fleet: Server, engine: Engine) -> Iterator[Popen[bytes]]:
    """An agent of the engine, once it has registered it, whatever another agent did before."""
    known = registered_at(fleet, "gpu-1")
    with agent(fleet, engine.url, "gpu-1", ENGINE_KEY) as process:
        wait_for(lambda: registered_at(fleet, "gpu-1") > known, "the agent to register its engine")
        yield process


async def sing(client: httpx.AsyncClient) -> None:
    """Have the engine sing, song after song: a fast machine ends one before the next heartbeat."""
    while True:
        await client.post("/v1/chat/completions", json=song(model=MODEL))


async def test_the_gateway_learns_what_engine_it_is_and_what_it_does(fleet: Server, engine: Engine) -> None:
    lock = (ROOT / "gpu_workers" / "cpu" / "engine.txt").read_text(encoding="utf-8")
    with registered(fleet, engine):
        known = workers(fleet)["gpu-1"]
        assert f"sglang=={known['engine_version']} " in lock
        assert (known["url"], known["models"], known["load"]["capacity"]) == (engine.url, [MODEL], 1)
        headers = {"authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(base_url=fleet.url, headers=headers, timeout=PATIENCE) as client:
            sung = [asyncio.create_task(sing(client)) for _ in range(2)]
            await engine.until_holds(2)
            await asyncio.to_thread(
                wait_for, lambda: workers(fleet)["gpu-1"]["load"]["running"] == 1, "a heartbeat to tell of it"
            )
            for one in sung:
                one.cancel()
            await asyncio.gather(*sung, return_exceptions=True)


async def test_a_stream_outlives_the_leaving_of_its_worker(fleet: Server, engine: Engine) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    with registered(fleet, engine) as leaving:
        async with (
            httpx.AsyncClient(base_url=fleet.url, headers=headers, timeout=PATIENCE) as client,
            client.stream("POST", "/v1/chat/completions", json=song(600, stream=True, model=MODEL)) as response,
        ):
            lines = response.aiter_lines()
            while '"content":" la"' not in await anext(lines):
                pass
            leaving.terminate()
            await asyncio.to_thread(wait_for, lambda: states(fleet)["gpu-1"] == "draining", "the gateway to be told")
            refused = await client.post("/v1/chat/completions", json=song(1, model=MODEL))
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "provider_unavailable")
            payloads = [line.removeprefix("data: ") async for line in lines if line.startswith("data: ")]
        assert payloads[-1] == "[DONE]"
        assert '"finish_reason":"length"' in payloads[-2]
        assert await asyncio.to_thread(leaving.wait, PATIENCE) == 0
    assert (await engine.load()).running == 0, "the agent ends last; the engine is its launcher's to end"


async def test_an_agent_may_be_killed_and_replaced_under_load(fleet: Server, engine: Engine) -> None:
    with registered(fleet, engine) as first:
        async with Callers(fleet.url, KEY, MODEL, CALLERS, tokens=(8, 32)) as callers:
            await callers.go_on(6)
            first.kill()
            known = registered_at(fleet, "gpu-1")
            await callers.go_on(6)
            with agent(fleet, engine.url, "gpu-1", ENGINE_KEY):
                replaced = "another agent to register"
                await asyncio.to_thread(wait_for, lambda: registered_at(fleet, "gpu-1") > known, replaced)
                await callers.go_on(6)
    assert reasons(callers.calls) == {}
    assert len(callers.having(WHOLE)) >= 18
