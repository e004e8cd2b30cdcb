"""Tasks on a real socket: the model that takes one, and the limit of its time."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from penstock.core.jobs import runner
from penstock.core.sse import DONE
from penstock.schema.job import Job
from tests.wire import gateway as gateways
from tests.wire.gateway import MODEL, Gateway, eventually
from tests.wire.test_jobs import BUSY, held
from tests.wire.upstream import HELLO, Upstream, answering, streaming


async def submit(gateway: Gateway, **body: Any) -> Any:
    """Submit a prompt; the answer's document."""
    return (await gateway.client.post("/generate", json={"prompt": "Hello", **body})).json()


async def ended(gateway: Gateway, task_id: str) -> Any:
    """What a task has come to."""
    found: list[Any] = []

    async def over() -> bool:
        found[:] = [(await gateway.client.get(f"/result/{task_id}")).json()]
        return found[0]["status"] in ("completed", "error")

    await eventually(over)
    return found[0]


async def test_a_prompt_becomes_a_message_with_the_documents_defaults(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = streaming(*HELLO)
    await ended(gateway, (await submit(gateway, user_id="user-12345", stop=["x"], top_p=None))["task_id"])
    sent = upstream.calls[0].json
    assert sent["messages"] == [{"role": "user", "content": "Hello"}]
    wanted = {"max_tokens": 512, "temperature": 0.7, "top_p": 0.9, "user": "user-12345", "stop": ["x"]}
    assert {name: sent[name] for name in wanted} == wanted
    assert not sent.keys() & {"prompt", "user_id"}


async def test_what_a_request_says_goes_before_the_configuration(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script = streaming(*HELLO)
    usual = {"tasks": {"model": MODEL, "max_tokens": 9, "temperature": 0.0}}
    async with gateways.serve(tmp_path, gateways.provider(upstream.url), sections=usual) as gateway:
        await ended(gateway, (await submit(gateway))["task_id"])
        await ended(gateway, (await submit(gateway, max_tokens=3, temperature=1.5, model=MODEL))["task_id"])
        await ended(gateway, (await submit(gateway, max_completion_tokens=4))["task_id"])
    bounds = [(call.json.get("max_tokens"), call.json["temperature"]) for call in upstream.calls]
    assert bounds == [(9, 0.0), (3, 1.5), (None, 0.0)]


async def test_without_any_model_the_refusal_says_what_to_do(tmp_path: Path) -> None:
    async with gateways.serve(tmp_path) as gateway:
        told = await submit(gateway)
    assert told["status_code"] == 503
    assert "configure a provider" in told["error"]


async def test_a_configured_model_that_nobody_serves_is_named(tmp_path: Path, upstream: Upstream) -> None:
    nobody = {"tasks": {"model": "gpt2"}}
    async with gateways.serve(tmp_path, gateways.provider(upstream.url), sections=nobody) as gateway:
        told = await submit(gateway)
    assert told["status_code"] == 404
    assert "'gpt2'" in told["error"]


@pytest.mark.parametrize("failing", ["slow", "failing"])
async def test_a_task_over_its_time_limit_fails_and_stops_its_engine(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    monkeypatch.setattr(runner, "BACKOFF", 0.3)
    upstream.script = held(asyncio.Event()) if failing == "slow" else answering(BUSY, 500)
    jobs = {"jobs": {"time_limit": 1, "attempts": 50}}
    async with gateways.serve(tmp_path, gateways.provider(upstream.url), sections=jobs) as gateway:
        told = await ended(gateway, (await submit(gateway))["task_id"])
    assert (told["status"], told["error_type"]) == ("error", "TaskTimeout")
    assert told["error_message"].startswith("The task was not done within its time limit of 1 seconds.")
    if failing == "slow":
        await asyncio.wait_for(upstream.calls[0].gone.wait(), gateways.PATIENCE)
        assert len(upstream.calls) == 1
    else:
        assert 1 < len(upstream.calls) < 10


def chunk(text: str) -> bytes:
    """A payload that says something."""
    return json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}).encode()


async def test_a_run_that_was_superseded_is_void(tmp_path: Path) -> None:
    """A runner elsewhere says something and dies; its successor says it again, and more."""
    async with gateways.serve(tmp_path, sections={"jobs": {"concurrency": 0}}) as gateway:
        store, now = gateway.house.store, time.time()
        await store.create_job(Job("job_1", "config-1", "chat/completions", b"{}", now, streamed=True))
        await store.claim_job("job_1", "dead", now=now, lease=0.0)
        await store.append_chunks("job_1", 1, 1, [chunk("Hel"), b"no chunk", chunk("lo")], expires=now + 60)
        events: list[Any] = []
        async with gateway.client.stream("GET", "/stream/job_1") as response, aclosing(response.aiter_lines()) as lines:
            async for line in lines:
                if line.startswith("data: "):
                    events.append(json.loads(line.removeprefix("data: ")))
                if len(events) == 3 and events[-1].get("token") == "lo":
                    await store.claim_job("job_1", "next", now=now + 1, lease=30.0)
                    await store.append_chunks("job_1", 2, 1, [chunk("Hello"), DONE], expires=now + 60)
                    answer = json.dumps({"choices": [{"message": {"content": "Hello"}}]}).encode()
                    await store.finish_job("job_1", "next", now=now + 2, expires=now + 60, result=answer)
    told = [(event["status"], event.get("token")) for event in events]
    assert told == [
        *[("processing", None), ("processing", "Hel"), ("processing", "lo")],
        *[("restarted", None), ("processing", "Hello"), ("completed", None)],
    ]
    assert events[-1]["result"] == "Hello"


async def test_a_stream_is_silent_for_15_seconds_at_most(tmp_path: Path) -> None:
    async with gateways.serve(tmp_path, sections={"jobs": {"concurrency": 0}}, ping_interval=0.05) as gateway:
        await gateway.house.store.create_job(Job("job_1", "config-1", "chat/completions", b"{}", time.time()))
        async with gateway.client.stream("GET", "/stream/job_1") as response, aclosing(response.aiter_lines()) as lines:
            said = [await anext(lines) for _ in range(9)]
    assert said[:2] == ["retry: 1000", ""]
    assert json.loads(said[3].removeprefix("data: "))["status"] == "queued"
    assert said[5::2] == [": ping"] * 2
