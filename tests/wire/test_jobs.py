"""Requests that are answered later, on a real socket: by OpenAI's client, polled, waited for, cancelled, asleep."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import openai
import pytest

from penstock.core.jobs import resender, runner, submission
from penstock.core.keys import generate, new_key
from penstock.core.limits import limiter
from penstock.core.routing import warming
from penstock.schema.limit import Budget, Limits
from tests.wire import gateway as gateways
from tests.wire.gateway import KEY, MODEL, Gateway, Reply, eventually
from tests.wire.upstream import HELLO, Call, Upstream, answering, completion, streaming

LATER = {"prefer": "respond-async"}
PRICED = {"prices": [{"provider": "first", "input": 1, "output": 1}]}
BUSY = {"error": {"message": "Come again.", "type": "server_error", "code": "overloaded"}}


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch, upstream: Upstream) -> None:
    upstream.script = answering(completion())
    monkeypatch.setattr(warming, "AGAIN", 0.02)
    monkeypatch.setattr(runner, "RENEWED", 0.05)
    monkeypatch.setattr(runner, "BACKOFF", 0.01)
    monkeypatch.setattr(resender, "EVERY", 0.1)


async def submit(gateway: Gateway, prefer: str = "respond-async", key: str = KEY, **body: Any) -> Reply:
    """Ask for an answer that may come later."""
    request = gateway.request(body)
    request.headers.update({"prefer": prefer, "authorization": f"Bearer {key}"})
    response = await gateway.client.send(request)
    return Reply(response.status_code, response.headers, response.content)


async def read(gateway: Gateway, path: str, method: str = "GET", **headers: str) -> Reply:
    """Ask for what became of a job."""
    response = await gateway.client.request(method, path, headers=headers)
    return Reply(response.status_code, response.headers, response.content)


async def ended(gateway: Gateway, path: str, **headers: str) -> Reply:
    """Ask until there is an answer."""
    async with asyncio.timeout(gateways.PATIENCE):
        while (reply := await read(gateway, path, **headers)).status == 202:  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.01)
    return reply


async def test_openai_s_client_submits_and_polls(gateway: Gateway) -> None:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0) as client:
        submitted = await client.chat.completions.with_raw_response.create(
            model=MODEL, messages=[{"role": "user", "content": "Hello"}], extra_headers={"Prefer": "respond-async"}
        )
        assert submitted.status_code == 202
        assert submitted.headers["preference-applied"] == "respond-async"
        assert int(submitted.headers["retry-after"]) >= 1
        path = submitted.headers["location"]
        await ended(gateway, path)
        answer = await client.get(path.removeprefix("/v1"), cast_to=openai.types.chat.ChatCompletion)
    assert answer.choices[0].message.content == "Hello there"
    assert answer.model == MODEL


async def test_an_accepted_job_says_what_it_is(gateway: Gateway) -> None:
    accepted = await submit(gateway)
    assert accepted.json["object"] == "job"
    assert accepted.json["status"] == "queued"
    assert accepted.headers["location"] == f"/v1/jobs/{accepted.json['id']}"


async def test_a_job_has_exactly_the_answer_of_its_request(gateway: Gateway) -> None:
    direct = await gateway.plain()
    later = await ended(gateway, (await submit(gateway)).headers["location"])
    assert (later.status, later.body) == (200, direct.body)


async def test_what_is_too_large_for_a_record_is_kept_beside_it(
    gateway: Gateway, upstream: Upstream, tmp_path: Path
) -> None:
    long = "word " * 100_000
    upstream.script = answering(completion(long))
    accepted = await submit(gateway, messages=[{"role": "user", "content": long}])
    path = accepted.headers["location"]
    later = await ended(gateway, path)
    assert later.json["choices"][0]["message"]["content"] == long
    assert upstream.calls[-1].json["messages"][0]["content"] == long
    record = await gateway.house.store.find_job(accepted.json["id"])
    assert record is not None
    assert len(record.result) < 100
    assert [found.name for found in (tmp_path / "state.objects").rglob("*") if found.is_file()] == ["result-1"]


async def test_who_asked_for_a_stream_gets_the_whole_answer(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = streaming(*HELLO)
    accepted = await submit(gateway, stream=True, stream_options={"include_usage": True})
    later = await ended(gateway, accepted.headers["location"])
    assert later.json["choices"][0]["message"]["content"] == "Hello there"


@pytest.mark.parametrize("prefer", ["respond-async, wait=10", "wait=10; x=1, Respond-Async"])
async def test_what_is_done_within_the_wait_is_answered_at_once(gateway: Gateway, prefer: str) -> None:
    reply = await submit(gateway, prefer)
    assert reply.status == 200
    assert reply.json["choices"][0]["message"]["content"] == "Hello there"
    assert reply.headers["preference-applied"] == "respond-async, wait=10"


@pytest.mark.parametrize("prefer", ["wait=10", "return=minimal", "respond-asynchronously", ""])
async def test_without_the_wish_nothing_is_different(gateway: Gateway, prefer: str) -> None:
    reply = await submit(gateway, prefer)
    assert reply.status == 200
    assert "preference-applied" not in reply.headers


async def test_what_takes_longer_than_the_wait_goes_on(gateway: Gateway, upstream: Upstream) -> None:
    go = asyncio.Event()
    upstream.script = held(go)
    reply = await submit(gateway, "respond-async, wait=1")
    assert reply.status == 202
    assert reply.json["status"] == "processing"
    go.set()
    assert (await ended(gateway, reply.headers["location"])).status == 200


async def test_polling_costs_no_body_while_nothing_changes(gateway: Gateway, upstream: Upstream) -> None:
    go = asyncio.Event()
    upstream.script = held(go)
    path = (await submit(gateway)).headers["location"]

    async def processing() -> bool:
        return bool((await read(gateway, path)).json["status"] == "processing")

    await eventually(processing)
    looked = await read(gateway, path)
    again = await read(gateway, path, **{"if-none-match": looked.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    assert int(again.headers["retry-after"]) >= 1
    go.set()
    assert (await ended(gateway, path)).headers["etag"] != looked.headers["etag"]


async def test_a_job_is_nobody_elses(gateway: Gateway) -> None:
    path = (await submit(gateway)).headers["location"]
    await ended(gateway, path)
    other = await made(gateway)
    for method in ("GET", "DELETE"):
        stranger = await read(gateway, path, method, authorization=f"Bearer {other}")
        assert (stranger.status, stranger.error["code"]) == (404, "not_found")
    assert (await read(gateway, path)).status == 200
    assert (await gateway.client.get(path, headers={"authorization": ""})).status_code == 401


async def test_a_refusal_of_the_provider_is_the_job_s_own(gateway: Gateway, upstream: Upstream) -> None:
    wrong = {"error": {"message": "No such thing.", "type": "invalid_request_error", "code": "odd", "param": "n"}}
    upstream.script = answering(wrong, 400)
    later = await ended(gateway, (await submit(gateway)).headers["location"])
    direct = await gateway.plain()
    assert later.status == direct.status == 400
    assert later.error == direct.error
    assert len(upstream.calls) == 2


async def test_what_may_pass_is_tried_again(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = times(2, answering(BUSY, 500), then=answering(completion()))
    assert (await ended(gateway, (await submit(gateway)).headers["location"])).status == 200
    assert len(upstream.calls) == 3


async def test_after_as_many_tries_as_are_allowed_a_job_has_failed_with_its_reason(
    gateway: Gateway, upstream: Upstream
) -> None:
    upstream.script = answering(BUSY, 500)
    later = await ended(gateway, (await submit(gateway)).headers["location"])
    assert (later.status, later.error["code"]) == (502, "upstream_unavailable")
    assert len(upstream.calls) == 5


@pytest.mark.parametrize("body", [{"model": "nobody"}, {"messages": "no list"}, {"n": "x"}])
async def test_a_request_that_is_wrong_is_refused_at_once(gateway: Gateway, body: dict[str, Any]) -> None:
    assert (await submit(gateway, **body)).status in (400, 404)


async def test_a_cancelled_job_stops_its_engine(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = held(asyncio.Event())
    path = (await submit(gateway)).headers["location"]
    await eventually(lambda: len(upstream.calls) == 1)
    cancelled = await read(gateway, path, "DELETE")
    assert (cancelled.status, cancelled.json["status"]) == (200, "cancelled")
    await asyncio.wait_for(upstream.calls[0].gone.wait(), gateways.PATIENCE)
    gone = await read(gateway, path)
    assert (gone.status, gone.error["code"]) == (410, "job_cancelled")
    assert (await read(gateway, path, "DELETE")).json["status"] == "cancelled"
    assert (await gateway.outcome()).ended == "cancelled"


async def test_cancelling_what_has_ended_changes_nothing(gateway: Gateway) -> None:
    path = (await submit(gateway)).headers["location"]
    before = await ended(gateway, path)
    assert (await read(gateway, path, "DELETE")).json["status"] == "completed"
    assert (await read(gateway, path)).body == before.body


async def test_a_revoked_key_s_jobs_end_with_it(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script = answering(BUSY, 500)
    async with gateways.serve(tmp_path, gateways.provider(upstream.url)) as gateway:
        secret = generate()
        key = new_key(secret)
        await gateway.house.store.create_key(key)
        accepted = await submit(gateway, key=secret.reveal())
        await gateway.house.store.revoke_key(key.id, 1.0)

        async def failed() -> bool:
            job = await gateway.house.store.find_job(accepted.json["id"])
            return job is not None and job.status == "failed" and "Authentication" in job.error

        await eventually(failed)


async def test_a_message_that_is_lost_is_sent_again(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, upstream: Upstream
) -> None:
    monkeypatch.setattr(submission, "OVERDUE", 0.05)

    async def lose(*_: Any, **__: Any) -> None:
        """The message is never sent."""

    with monkeypatch.context() as lost:
        lost.setattr(type(gateway.house.queue), "send", lose)
        accepted = await submit(gateway)
    assert (await ended(gateway, accepted.headers["location"])).status == 200
    assert len(upstream.calls) == 1


async def test_a_job_over_its_budget_fails_and_one_over_a_rate_waits(tmp_path: Path, upstream: Upstream) -> None:
    provider = gateways.provider(upstream.url)
    async with gateways.serve(tmp_path, provider, sections=PRICED) as gateway:
        poor = await made(gateway, budget=Budget(total=1e-9))
        broke = await submit(gateway, key=poor)
        told = await ended(gateway, broke.headers["location"], authorization=f"Bearer {poor}")
        assert (told.status, told.error["code"]) == (429, "insufficient_quota")
        assert upstream.calls == []
        slow = await made(gateway, limits=Limits(concurrency=1))
        go = asyncio.Event()
        upstream.script = held(go)
        refused = limiter.REFUSED.values.get(("key", "concurrency"), 0)
        both = [await submit(gateway, key=slow) for _ in range(2)]
        await eventually(lambda: limiter.REFUSED.values.get(("key", "concurrency"), 0) > refused)
        await eventually(lambda: len(upstream.calls) == 1)
        go.set()
        for each in both:
            assert (await ended(gateway, each.headers["location"], authorization=f"Bearer {slow}")).status == 200


async def test_limits_of_requests_hold_when_a_job_is_submitted_and_not_again(
    tmp_path: Path, upstream: Upstream
) -> None:
    async with gateways.serve(tmp_path, gateways.provider(upstream.url)) as gateway:
        key = await made(gateway, limits=Limits(requests_per_minute=60, burst=1))
        accepted, refused = [await submit(gateway, key=key) for _ in range(2)]
        assert (accepted.status, refused.status) == (202, 429)
        assert refused.error["code"] == "rate_limited"
        later = await ended(gateway, accepted.headers["location"], authorization=f"Bearer {key}")
        assert later.status == 200


async def test_who_loses_a_job_to_another_runner_stops_and_charges_nothing(
    gateway: Gateway, upstream: Upstream
) -> None:
    upstream.script = held(asyncio.Event())
    accepted = await submit(gateway)
    await eventually(lambda: len(upstream.calls) == 1)
    store, now = gateway.house.store, time.time() + 1000
    assert await store.claim_job(accepted.json["id"], "another", now=now, lease=30) is not None
    await asyncio.wait_for(upstream.calls[0].gone.wait(), gateways.PATIENCE)
    assert await store.finish_job(accepted.json["id"], "another", now=now, expires=now + 60, result=b'{"his": 1}')
    assert (await read(gateway, accepted.headers["location"])).json == {"his": 1}
    await gateway.house.ledger.flush()
    assert await store.list_outcomes() == []


async def test_a_request_that_would_wait_for_a_cold_start_becomes_a_job(tmp_path: Path, upstream: Upstream) -> None:
    awake = asyncio.Event()

    async def sleeper(call: Call) -> None:
        if not awake.is_set():
            call.answer({"detail": "no replica"}, 503)
        elif call.target == "/ready":
            call.answer({})
        else:
            call.stream(*HELLO)

    upstream.script = sleeper
    cold = {"seconds": 40, "budget": 30, "idle": 300, "job": True}
    async with gateways.serve(tmp_path, gateways.provider(upstream.url, type="sglang", cold_start=cold)) as gateway:
        accepted = await gateway.plain()
        assert accepted.status == 202
        assert (await read(gateway, accepted.headers["location"])).status == 202
        awake.set()
        later = await ended(gateway, accepted.headers["location"])
        assert later.json["choices"][0]["message"]["content"] == "Hello there"
        assert (await gateway.plain()).status == 200, "once it is awake nobody waits"


async def test_a_server_that_is_stopped_gives_its_jobs_back(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.script = held(asyncio.Event())
    async with gateways.serve(tmp_path, gateways.provider(upstream.url)) as gateway:
        monkeypatch.setattr(gateway.house.consumer, "_grace", 0.1)
        accepted = await submit(gateway)
        await eventually(lambda: len(upstream.calls) == 1)
    upstream.script = answering(completion())
    async with gateways.serve(tmp_path, gateways.provider(upstream.url)) as gateway:
        assert (await ended(gateway, accepted.headers["location"])).status == 200
        job = await gateway.house.store.find_job(accepted.json["id"])
        assert job is not None
        assert (job.attempts, job.failures) == (1, 0)


def held(go: asyncio.Event) -> Any:
    """A script that answers once it may."""

    async def script(call: Call) -> None:
        await go.wait()
        call.answer(completion())

    return script


def times(count: int, first: Any, *, then: Any) -> Any:
    """A script that answers so often in one way, and then in another."""
    left = [count]

    async def script(call: Call) -> None:
        left[0] -= 1
        await (first if left[0] >= 0 else then)(call)

    return script


async def made(gateway: Gateway, **fields: Any) -> str:
    """A key of its own."""
    secret = generate()
    await gateway.house.store.create_key(new_key(secret, **fields))
    return secret.reveal()
