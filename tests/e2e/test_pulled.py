"""Workers that nobody can call: they ask for jobs, and what their engines answer comes back by itself."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from penstock.core import fleet as signing
from penstock.schema.secret import Secret
from tests.e2e.engine import Engine
from tests.e2e.fleet import CONFIG, SECRET, agent, states, workers
from tests.e2e.server import Server, chat, wait_for

SECRETS = {"PENSTOCK_FLEET_SECRET": SECRET, "PENSTOCK_ENGINE_API_KEY": "not-known-to-anybody"}
LATER = {"prefer": "respond-async"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path, CONFIG, **SECRETS) as started:
        yield started


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as started:
        started.ready.set()
        yield started


def submit(server: Server, **fields: object) -> str:
    """The path of a job for the workers' model."""
    with server.client() as client:
        answer = client.post("/v1/chat/completions", json=chat(model="llama", **fields), headers=LATER)
    assert answer.status_code == 202, answer.text
    return str(answer.headers["location"])


def answer(server: Server, path: str) -> httpx.Response:
    """What is told of a job now."""
    with server.client() as client:
        return client.get(path)


def status(server: Server, path: str) -> str:
    """A job's state, or its HTTP status once it has ended."""
    told = answer(server, path)
    return str(told.json()["status"] if told.status_code == 202 else told.status_code)


def say(server: Server, path: str, document: dict[str, object], secret: str = SECRET) -> httpx.Response:
    """Say something as a worker does."""
    body = json.dumps(document).encode()
    signature = signing.sign(Secret(secret), "POST", path, body, int(time.time()))
    with server.client() as client:
        headers = {"x-penstock-signature": signature, "content-type": "application/json"}
        return client.post(path, content=body, headers=headers)


def test_an_engine_that_the_gateway_has_no_address_of_answers_jobs(server: Server, engine: Engine) -> None:
    with agent(server, engine.url, "gpu-1", pull=True):
        wait_for(lambda: states(server) == {"gpu-1": "ready"}, "the worker")
        known = workers(server)["gpu-1"]
        assert (known["url"], known["pull"]) == (None, True)
        with server.client() as client:
            assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["llama"]
            refused = client.post("/v1/chat/completions", json=chat(model="llama"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "jobs_only")
        assert "'Prefer: respond-async'" in refused.json()["error"]["message"]
        paths = [submit(server) for _ in range(12)] + [submit(server, stream=True)]
        for path in paths:
            wait_for(lambda path=path: status(server, path) == "200", "its answer")  # type: ignore[misc]
            assert answer(server, path).json()["choices"][0]["message"]["content"] == engine.url
    wait_for(lambda: len(server.outcomes()) == len(paths), "the ledger")
    told = server.outcomes()
    assert {(outcome["deployment"], outcome["ended"]) for outcome in told} == {("gpu-1/llama", "ok")}
    assert sorted(outcome["request_id"] for outcome in told) == sorted(f"{path[9:]}.0" for path in paths)


def test_an_agent_that_leaves_ends_its_job_and_takes_no_other(server: Server, engine: Engine) -> None:
    with agent(server, engine.url, "gpu-1", pull=True) as process:
        engine.go.clear()
        wait_for(lambda: states(server) == {"gpu-1": "ready"}, "the worker")
        first = submit(server)
        wait_for(lambda: engine.running == 1, "the engine to work")
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: states(server) == {"gpu-1": "draining"}, "its word")
        second = submit(server)
        engine.go.set()
        wait_for(lambda: status(server, first) == "200", "the answer of what it had")
        process.wait(30)
    assert status(server, second) == "queued"
    with agent(server, engine.url, "gpu-2", pull=True):
        wait_for(lambda: status(server, second) == "200", "another worker to take the rest", 30)


def test_an_answer_waits_for_a_gateway_that_is_away(tmp_path: Path, engine: Engine) -> None:
    engine.go.clear()
    with Server(tmp_path, CONFIG, **SECRETS) as first, agent(first, engine.url, "gpu-1", pull=True) as process:
        wait_for(lambda: states(first) == {"gpu-1": "ready"}, "the worker")
        path = submit(first)
        wait_for(lambda: engine.running == 1, "the engine to work")
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait()
        engine.go.set()
        wait_for(lambda: engine.served == 1, "the engine to answer")
        with Server(tmp_path, CONFIG, port=first.port, **SECRETS) as second:
            wait_for(lambda: status(second, path) == "200", "the answer to be taken", 20)
            wait_for(lambda: len(second.outcomes()) == 1, "its line in the ledger")
        process.kill()
    assert engine.served == 1


def test_only_the_fleet_takes_jobs_and_bad_words_are_no_failure_of_ours(server: Server) -> None:
    worker = {"id": "gpu-1", "generation": "g1", "models": ["llama"]}
    assert say(server, "/v1/workers", worker).status_code == 400, "neither a url nor pull"
    assert say(server, "/v1/workers", worker | {"pull": True, "url": "http://h:1"}).status_code == 400
    assert say(server, "/v1/workers", worker | {"pull": True}).status_code == 201
    claim = "/v1/workers/gpu-1/jobs/claim"
    assert say(server, claim, {"generation": "g1"}, secret="another-secret-of-16").status_code == 401
    assert say(server, claim, {"generation": "another"}).status_code == 404
    assert say(server, claim, {"generation": "g1", "wait": 99}).status_code == 400
    assert say(server, claim, {"generation": "g1"}).json()["data"] == []
    held = {"jobs": {"x": "y"}}
    for path, body in (("renew", held), ("release", held), ("x/result", {"receipt": "y"})):
        assert say(server, f"/v1/workers/gpu-1/jobs/{path}", body).status_code == 200, path
        assert say(server, f"/v1/workers/gpu-1/jobs/{path}", {"jobs": 1}).status_code == 400, path
