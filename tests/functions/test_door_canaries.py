"""A key and a prompt are looked for in all that the four doors tell and keep, on both stores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.contract.canaries import KEY, PROMPT, WRONG, found_in, kept
from tests.functions import adapter, doors, dynamodb, runtime_api

CONFIG = f"""\
auth: {{mode: keys, api_keys: [{KEY}]}}
logging: {{level: DEBUG}}
providers:
  - {{name: simulated, type: simulated}}
  - {{name: nobody, type: vllm, base_url: "http://127.0.0.1:9/v1", models: [nobody]}}
"""
CHAT = {"model": "simulated/echo", "messages": [{"role": "user", "content": PROMPT}]}
EMBEDDING = {"model": "simulated/echo", "input": PROMPT}

pytestmark = [pytest.mark.timeout(300), pytest.mark.row("P5")]


@dataclass
class Deployed:
    """Where a deployment keeps its state, what its doors find in their environment, and where they log."""

    folder: Path
    given: dict[str, str]
    state: str


@pytest.fixture(params=["sqlite", "dynamodb"])
def deployed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployed]:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG, encoding="utf-8")
    given = {"PENSTOCK_CONFIG": str(config)}
    if request.param == "sqlite":
        state = f"sqlite:///{tmp_path}/state.db"
        yield Deployed(tmp_path, {**given, "PENSTOCK_STATE_URL": state}, state)
        return
    with dynamodb.serve() as wire:
        host, port = wire.beyond
        urls = {"PENSTOCK_STATE_URL": wire.state_url, "PENSTOCK_QUEUE_URL": wire.queue_url}
        behind = f"dynamodb://{wire.prefix}?region=eu-west-1&endpoint=http://{host}:{port}"
        yield Deployed(tmp_path, {**given, **urls}, behind)


def asking(name: str, body: Any, key: str | None = KEY, **query: str) -> dict[str, Any]:
    """An event with another body, key and address."""
    event = doors.presenting(doors.event(name), key)
    event["body"] = body if isinstance(body, str) else json.dumps(body)
    event["queryStringParameters"] = query or None
    event["multiValueQueryStringParameters"] = {name: [value] for name, value in query.items()} or None
    return event


def by_the_buffered_door(deployed: Deployed) -> str:
    """Ask it well and badly; the id of a job that it has accepted."""
    with (
        runtime_api.serve() as api,
        doors.buffered("HttpApi", api, deployed.given, deployed.folder / "http.log") as door,
    ):
        for good in (EMBEDDING, {**EMBEDDING, "model": "nobody"}):
            door.call(asking("http_api_embeddings", good))
        for bad in ({**EMBEDDING, "dimensions": PROMPT}, json.dumps(EMBEDDING)[:-2], {"model": 5, "input": PROMPT}):
            answer = door.call(asking("http_api_embeddings", bad))
            assert answer["statusCode"] == 400
            assert not found_in(answer["body"])
        for key in (WRONG, None):
            answer = door.call(asking("http_api_embeddings", EMBEDDING, key, api_key=WRONG))
            assert answer["statusCode"] == 401
            assert not found_in(answer["body"])
        accepted = door.call(asking("http_api_embeddings_later", EMBEDDING))
        assert accepted["statusCode"] == 202, accepted
        job: str = json.loads(accepted["body"])["id"]
        return job


def by_the_streaming_door(deployed: Deployed) -> None:
    log = deployed.folder / "stream.log"
    with runtime_api.serve() as api, doors.streaming(adapter.find(), api, deployed.given, log) as door:
        for body in ({**CHAT, "stream": True}, CHAT, {**CHAT, "model": "nobody"}, {**CHAT, "n": PROMPT}):
            door.invoke(asking("stream_api_chat", body)).wait()
        door.invoke(asking("stream_api_chat", CHAT, WRONG)).wait()


def by_the_runner_and_the_clock(deployed: Deployed, job: str) -> None:
    """Have the job run, and one that is none; then a tick."""
    with ExitStack() as running:
        api = [running.enter_context(runtime_api.serve()) for _ in range(2)]
        log = deployed.folder / "runner.log"
        runner = running.enter_context(doors.buffered("JobRunner", api[0], deployed.given, log))
        event = doors.event("job_runner_chat")
        record = event["Records"][0]
        bodies = (json.dumps({"job_id": job}), PROMPT)
        event["Records"] = [{**record, "messageId": f"m-{n}", "body": body} for n, body in enumerate(bodies)]
        assert runner.call(event) == {"batchItemFailures": [{"itemIdentifier": "m-1"}]}
        log = deployed.folder / "clock.log"
        clock = running.enter_context(doors.buffered("Housekeeper", api[1], deployed.given, log))
        assert not found_in(json.dumps(clock.call(doors.event("housekeeper_schedule"))))


def test_no_door_tells_or_keeps_a_canary(deployed: Deployed) -> None:
    by_the_runner_and_the_clock(deployed, by_the_buffered_door(deployed))
    logs = {path.name: path.read_text(encoding="utf-8") for path in deployed.folder.glob("*.log")}
    assert logs.keys() == {"http.log", "runner.log", "clock.log"}
    assert logs["http.log"]
    assert logs["runner.log"]
    assert {name: found for name, text in logs.items() if (found := found_in(text))} == {}
    found = kept(deployed.state)
    assert set(found) - {"jobs.body", "jobs.result"} == set()  # a job's request; vectors say nothing of it
    assert set().union(*found.values()) <= {"prompt"}


def test_the_streaming_door_tells_and_keeps_no_canary(deployed: Deployed) -> None:
    by_the_streaming_door(deployed)
    assert '"request_id"' in (log := (deployed.folder / "stream.log").read_text(encoding="utf-8"))
    assert not found_in(log)
    assert kept(deployed.state) == {}
