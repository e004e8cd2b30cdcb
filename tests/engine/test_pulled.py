"""A real engine that the gateway has no address of: its agent asks for jobs, and everything comes back by itself."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from subprocess import Popen

import httpx
import pytest

from tests.e2e.fleet import CONFIG, SECRET, agent, registered_at, states
from tests.e2e.server import KEY, Server, wait_for
from tests.engine.engine import KEY as ENGINE_KEY
from tests.engine.engine import PATIENCE, Engine
from tests.engine.speech import HELLO, say, song

MODEL = "tiny"
LATER = {"prefer": "respond-async"}
LONG = 300
"""Tokens of a song of about three seconds."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gateway that may call no engine."""
    folder = tmp_path_factory.mktemp("pulled")
    with Server(folder, CONFIG, PENSTOCK_FLEET_SECRET=SECRET, PENSTOCK_ENGINE_API_KEY="not-the-engines") as started:
        yield started


@pytest.fixture
async def caller(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=PATIENCE) as client:
        yield client


@contextmanager
def pulling(server: Server, engine: Engine, name: str) -> Iterator[Popen[bytes]]:
    """An agent that takes jobs for the engine, once it has registered it."""
    known = registered_at(server, name)
    with agent(server, engine.url, name, ENGINE_KEY, pull=True) as process:
        wait_for(lambda: registered_at(server, name) > known, "the agent to register its engine")
        yield process


async def submit(caller: httpx.AsyncClient, **body: object) -> str:
    answer = await caller.post("/v1/chat/completions", json=body, headers=LATER)
    assert answer.status_code == 202, answer.text
    return str(answer.headers["location"])


async def ended(caller: httpx.AsyncClient, path: str, seconds: float = PATIENCE) -> httpx.Response:
    """What a job has come to."""
    async with asyncio.timeout(seconds):
        while (answer := await caller.get(path)).status_code == 202:  # noqa: ASYNC110 - polling is how it is asked
            await asyncio.sleep(0.1)
    return answer


async def test_it_answers_jobs_with_its_usage(server: Server, engine: Engine, caller: httpx.AsyncClient) -> None:
    with pulling(server, engine, "gpu-1"):
        hello = await submit(caller, model=MODEL, messages=say(HELLO), temperature=0)
        wrong = await submit(caller, model=MODEL, messages=say("kilo " * 2000))
        answer = (await ended(caller, hello)).json()
        assert answer["choices"][0]["message"]["content"] == "Hello! I am a tiny test model."
        assert answer["usage"]["completion_tokens"] > 0
        assert (await ended(caller, wrong)).status_code == 400, "its context is too short"


async def test_a_job_that_is_cancelled_frees_the_engine(
    server: Server, engine: Engine, caller: httpx.AsyncClient
) -> None:
    with pulling(server, engine, "gpu-1"):
        path = await submit(caller, **song(900, model=MODEL))
        await engine.until_singing()
        assert (await caller.delete(path)).json()["status"] == "cancelled"
        took = await engine.until_idle(8.0)
    print(f"the engine was idle {took:.1f} s after the job was cancelled")
    assert (await caller.get(path)).status_code == 410


async def test_a_worker_that_drains_ends_its_job(server: Server, engine: Engine, caller: httpx.AsyncClient) -> None:
    with pulling(server, engine, "gpu-1") as process:
        path = await submit(caller, **song(LONG, model=MODEL))
        await engine.until_singing()
        process.send_signal(signal.SIGTERM)
        answer = await ended(caller, path)
        assert answer.json()["choices"][0]["finish_reason"] == "length"
        assert await asyncio.to_thread(process.wait, PATIENCE) == 0
    assert states(server)["gpu-1"] == "draining"


async def test_the_job_of_an_agent_that_is_killed_is_another_worker_s(
    server: Server, engine: Engine, caller: httpx.AsyncClient
) -> None:
    with pulling(server, engine, "gpu-1") as process:
        path = await submit(caller, **song(LONG, model=MODEL))
        await engine.until_singing()
        process.kill()
    await engine.until_idle(8.0)
    with pulling(server, engine, "gpu-2"):
        answer = await ended(caller, path, 90.0)
    assert answer.json()["choices"][0]["finish_reason"] == "length"
    told = [one for one in server.outcomes() if one["request_id"].startswith(path.rpartition("/")[2])]
    assert [(one["deployment"], one["ended"]) for one in told] == [("gpu-2/tiny", "ok")], "charged once"
