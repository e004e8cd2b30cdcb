"""A worker beside a real gateway: its agent registers it, keeps it there, and takes it out without losing a call."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.engine import Engine
from tests.e2e.fleet import CONFIG, SECRET, agent, registered_at, states, workers
from tests.e2e.server import KEY, Server, chat, wait_for

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path, CONFIG, PENSTOCK_FLEET_SECRET=SECRET, PENSTOCK_ENGINE_API_KEY="engine-key") as started:
        yield started


def ask(server: Server) -> tuple[int, str]:
    """The status of a chat request, and the engine that answered it."""
    with server.client(KEY) as client:
        answer = client.post("/v1/chat/completions", json=chat(model="llama"))
    return answer.status_code, answer.json()["choices"][0]["message"]["content"] if answer.status_code == 200 else ""


def test_a_worker_is_there_once_its_engine_is_ready(server: Server) -> None:
    with Engine() as engine, agent(server, engine.url, "gpu-1"):
        assert ask(server)[0] == 404
        engine.ready.set()
        wait_for(lambda: states(server) == {"gpu-1": "ready"}, "the worker to register")
        assert wait_for(lambda: answer if (answer := ask(server))[0] == 200 else None, "it to be used") == (
            200,
            engine.url,
        )
        with server.client() as client:
            assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["llama"]
        worker = workers(server)["gpu-1"]
        assert worker["engine_version"] == "0.5.23"
        assert worker["load"]["capacity"] == 8


def test_draining_loses_no_call(server: Server) -> None:
    with Engine() as one, Engine() as two, ThreadPoolExecutor(8) as pool:
        for engine in (one, two):
            engine.ready.set()
        with agent(server, one.url, "gpu-1") as leaving, agent(server, two.url, "gpu-2"):
            wait_for(lambda: states(server) == {"gpu-1": "ready", "gpu-2": "ready"}, "both to register")
            wait_for(lambda: ask(server)[0] == 200, "them to be used")
            one.go.clear()
            two.go.clear()
            begun = [pool.submit(ask, server) for _ in range(8)]
            wait_for(lambda: one.running + two.running == 8, "the engines to be at work")
            leaving.terminate()
            wait_for(lambda: states(server)["gpu-1"] == "draining", "the worker to drain")
            assert leaving.poll() is None, "the agent waits for what its engine has begun"
            one.go.set()
            two.go.set()
            assert [future.result()[0] for future in begun] == [200] * 8
            assert leaving.wait(30) == 0
            served = one.served
            assert [ask(server) for _ in range(5)] == [(200, two.url)] * 5
            assert one.served == served


def test_a_killed_worker_is_gone_when_its_lease_is_over_and_its_calls_move_on(server: Server) -> None:
    with Engine() as two:
        two.ready.set()
        with Engine() as one:
            one.ready.set()
            with agent(server, one.url, "gpu-1"), agent(server, two.url, "gpu-2"):
                wait_for(lambda: states(server) == {"gpu-1": "ready", "gpu-2": "ready"}, "both to register")
                wait_for(lambda: ask(server)[0] == 200, "them to be used")
        with agent(server, two.url, "gpu-2"):
            assert {ask(server) for _ in range(10)} == {(200, two.url)}, "a dead engine's calls go to the living"
            wait_for(lambda: states(server)["gpu-1"] == "gone", "the lease to be over", 60)


def test_an_engine_that_ends_is_taken_out_at_once_and_comes_back_by_itself(server: Server) -> None:
    with Engine() as engine:
        engine.ready.set()
        with agent(server, engine.url, "gpu-1"):
            wait_for(lambda: states(server) == {"gpu-1": "ready"}, "the worker to register")
            engine.ready.clear()
            wait_for(lambda: states(server) == {"gpu-1": "draining"}, "an engine that is not ready to be taken out", 10)
            engine.ready.set()
            wait_for(lambda: states(server) == {"gpu-1": "ready"}, "it to come back", 10)
            engine.__exit__()
            wait_for(lambda: states(server) == {"gpu-1": "draining"}, "an engine that is gone to be taken out", 10)
            with Engine(engine.port) as again:
                again.ready.set()
                wait_for(lambda: states(server) == {"gpu-1": "ready"}, "its successor to be taken in", 10)


def test_an_agent_may_die_and_be_replaced_under_load(server: Server) -> None:
    with Engine() as engine, ThreadPoolExecutor(8) as pool:
        engine.ready.set()
        with agent(server, engine.url, "gpu-1") as first:
            wait_for(lambda: states(server) == {"gpu-1": "ready"}, "the worker to register")
            wait_for(lambda: ask(server)[0] == 200, "it to be used")
            engine.go.clear()
            begun = [pool.submit(ask, server) for _ in range(4)]
            wait_for(lambda: engine.running == 4, "the engine to be at work")
            first.kill()
            first.wait()
            engine.go.set()
            alone = [pool.submit(ask, server) for _ in range(20)]
            assert [call.result() for call in begun + alone] == [(200, engine.url)] * 24
            registered = registered_at(server, "gpu-1")
            with agent(server, engine.url, "gpu-1"):
                wait_for(lambda: registered_at(server, "gpu-1") != registered, "the new agent to register")
                assert states(server) == {"gpu-1": "ready"}
                assert [ask(server) for _ in range(5)] == [(200, engine.url)] * 5
