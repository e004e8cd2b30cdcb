"""``Idempotency-Key`` on requests for a generation, on a real socket: one generation a key, whoever asks again."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.core.keys import generate, new_key
from penstock.schema.limit import Limits
from tests.wire import gateway as gateways
from tests.wire.gateway import KEY, Gateway, Reply, eventually
from tests.wire.upstream import Call, Script, Upstream, answering, chunk, completion, streaming, usage_chunk

BUSY = {"error": {"message": "Come again.", "type": "server_error", "code": "overloaded"}}


def held(go: asyncio.Event) -> Script:
    """A script that answers once it may."""

    async def script(call: Call) -> None:
        await go.wait()
        call.answer(completion())

    return script


@pytest.fixture(autouse=True)
def answered(upstream: Upstream) -> None:
    upstream.script = answering(completion())


async def ask(gateway: Gateway, key: str = "k-1", api_key: str = KEY, prefer: str = "", **body: object) -> Reply:
    """Ask under an idempotency key."""
    request = gateway.request(body)
    request.headers.update({"idempotency-key": key, "authorization": f"Bearer {api_key}"})
    if prefer:
        request.headers["prefer"] = prefer
    response = await gateway.client.send(request)
    return Reply(response.status_code, response.headers, response.content)


async def stream(gateway: Gateway, key: str = "k-1") -> Reply:
    """Ask for a stream under an idempotency key, and read all of it."""
    request = gateway.request({"stream": True})
    request.headers["idempotency-key"] = key
    response = await gateway.client.send(request)
    return Streamed(response.status_code, response.headers, response.content)


class Streamed(Reply):
    """A stream whose events have ids."""

    @property
    def payloads(self) -> list[bytes]:
        return [line[6:] for frame in self.frames for line in frame.split(b"\n") if line.startswith(b"data: ")]


async def test_a_job_is_submitted_once_a_key(gateway: Gateway, upstream: Upstream) -> None:
    first = await ask(gateway, prefer="respond-async, wait=10")
    again = await ask(gateway, prefer="respond-async, wait=10")
    assert (first.status, again.status) == (200, 200)
    assert first.headers["location"] == again.headers["location"]
    assert first.body == again.body
    assert len(upstream.calls) == 1


async def test_of_many_submissions_at_once_one_job_is_made(gateway: Gateway, upstream: Upstream) -> None:
    answers = await asyncio.gather(*(ask(gateway, prefer="respond-async") for _ in range(8)))
    assert len({answer.headers["location"] for answer in answers}) == 1
    await eventually(lambda: len(upstream.calls) == 1)
    final = await ask(gateway, prefer="respond-async, wait=10")
    assert final.status == 200
    assert len(upstream.calls) == 1


async def test_the_order_of_fields_makes_no_other_request(gateway: Gateway, upstream: Upstream) -> None:
    one = await ask(gateway, prefer="respond-async", temperature=0.5, max_tokens=5)
    two = await ask(gateway, prefer="respond-async", max_tokens=5, temperature=0.5)
    assert one.headers["location"] == two.headers["location"]


async def test_another_body_under_the_same_key_is_409(gateway: Gateway) -> None:
    await ask(gateway, prefer="respond-async", max_tokens=5)
    other = await ask(gateway, prefer="respond-async", max_tokens=6)
    assert (other.status, other.json["error"]["code"]) == (409, "idempotency_key_reused")


async def test_the_same_key_of_another_caller_is_another_key(gateway: Gateway) -> None:
    other = generate()
    await gateway.house.store.create_key(new_key(other))
    one = await ask(gateway, prefer="respond-async")
    two = await ask(gateway, prefer="respond-async", api_key=other.reveal())
    assert one.headers["location"] != two.headers["location"]


async def test_a_job_that_expired_is_made_anew_and_charged_anew(gateway: Gateway, upstream: Upstream) -> None:
    first = await ask(gateway, prefer="respond-async, wait=10")
    store = gateway.house.store
    job = await store.find_job(first.headers["location"].rpartition("/")[2])
    assert job is not None
    assert await store.replace_job(replace(job, claims=job.claims + 1, expires_at=time.time() - 1), seen=job)
    again = await ask(gateway, prefer="respond-async, wait=10")
    assert again.status == 200
    assert len(upstream.calls) == 2
    assert len(await gateway.outcomes(2)) == 2


async def test_a_plain_answer_is_given_again_and_made_once(gateway: Gateway, upstream: Upstream) -> None:
    first = await ask(gateway)
    again = await ask(gateway)
    assert (first.status, again.status) == (200, 200)
    assert first.body == again.body
    assert first.headers["location"] == again.headers["location"]
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert len(upstream.calls) == 1
    assert len(await gateway.outcomes()) == 1


async def test_a_kept_answer_says_who_gave_it(tmp_path: Path, upstream: Upstream) -> None:
    told = {"request": {"proxy_info": True}}
    async with gateways.serve(tmp_path, gateways.provider(upstream.url), sections=told) as gateway:
        first, again = await ask(gateway), await ask(gateway)
        assert first.json["_proxy_info"]["provider"] == "first"
        assert again.body == first.body


async def test_of_many_at_once_one_is_generated_and_all_are_told(gateway: Gateway, upstream: Upstream) -> None:
    go = asyncio.Event()
    upstream.script = held(go)
    asked = [asyncio.ensure_future(ask(gateway)) for _ in range(8)]
    await eventually(lambda: len(upstream.calls) == 1)
    go.set()
    answers = await asyncio.gather(*asked)
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
    assert len(upstream.calls) == 1
    assert len(await gateway.outcomes()) == 1


async def test_who_left_finds_the_answer_that_went_on(gateway: Gateway, upstream: Upstream) -> None:
    go = asyncio.Event()
    upstream.script = held(go)
    left = asyncio.ensure_future(ask(gateway))
    await eventually(lambda: len(upstream.calls) == 1)
    left.cancel()
    await asyncio.gather(left, return_exceptions=True)
    again = asyncio.ensure_future(ask(gateway))
    go.set()
    assert (await again).status == 200
    assert len(upstream.calls) == 1


async def test_a_stream_is_told_again_from_its_first_token(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = streaming(chunk("Hel"), chunk("lo"), chunk(finish="stop"), usage_chunk())
    first = await stream(gateway)
    again = await stream(gateway)
    assert first.ended_well()
    assert again.body == first.body
    assert again.headers["idempotent-replayed"] == "true"
    assert len(upstream.calls) == 1


async def test_another_process_tells_the_same(tmp_path: Path, upstream: Upstream) -> None:
    one, other = gateways.provider(upstream.url), gateways.provider(upstream.url)
    async with gateways.serve(tmp_path, one) as first, gateways.serve(tmp_path, other) as second:
        go = asyncio.Event()
        upstream.script = held(go)
        asked = [asyncio.ensure_future(ask(gateway)) for gateway in (first, second)]
        await eventually(lambda: len(upstream.calls) == 1)
        go.set()
        answers = await asyncio.gather(*asked)
        assert answers[0].body == answers[1].body
        assert len(upstream.calls) == 1


async def test_what_failed_by_what_may_pass_is_tried_again(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = answering(BUSY, status=500)
    first = await ask(gateway)
    assert first.status >= 500
    upstream.script = answering(completion())
    again = await ask(gateway)
    assert again.status == 200
    assert "idempotent-replayed" not in again.headers
    outcomes = await gateway.outcomes(2)
    assert [outcome.ended for outcome in outcomes] == ["failed", "ok"]


async def test_what_was_refused_for_good_is_refused_again_without_asking(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = answering(BUSY, status=400)
    first, again = await ask(gateway), await ask(gateway)
    assert (first.status, again.status) == (400, 400)
    assert first.error["message"] == again.error["message"]
    assert len(upstream.calls) == 1


async def test_what_takes_longer_than_a_connection_may_goes_on(tmp_path: Path, upstream: Upstream) -> None:
    go = asyncio.Event()
    upstream.script = held(go)
    async with gateways.serve(tmp_path, gateways.provider(upstream.url), sections={"request": {"timeout": 0.3}}) as one:
        first = await ask(one)
        assert (first.status, first.error["code"]) == (504, "upstream_timeout")
        assert "/v1/jobs/job_" in first.error["message"]
        go.set()
        again = await ask(one)
        assert again.status == 200
        assert len(upstream.calls) == 1


async def test_a_limit_that_refuses_is_told_at_once_and_asked_again(tmp_path: Path, upstream: Upstream) -> None:
    async with gateways.serve(tmp_path, gateways.provider(upstream.url)) as gateway:
        key = generate()
        await gateway.house.store.create_key(new_key(key, limits=Limits(concurrency=1)))
        go = asyncio.Event()
        upstream.script = held(go)
        one = asyncio.ensure_future(ask(gateway, "k-1", api_key=key.reveal()))
        await eventually(lambda: len(upstream.calls) == 1)
        refused = await ask(gateway, "k-2", api_key=key.reveal())
        assert refused.status == 429
        assert int(refused.headers["retry-after"]) >= 1
        go.set()
        assert (await one).status == 200
        assert (await ask(gateway, "k-2", api_key=key.reveal())).status == 200


async def test_a_repeat_takes_nothing_of_a_limit(tmp_path: Path, upstream: Upstream) -> None:
    async with gateways.serve(tmp_path, gateways.provider(upstream.url)) as gateway:
        key = generate()
        await gateway.house.store.create_key(new_key(key, limits=Limits(requests_per_minute=1, burst=1)))
        answers = [await ask(gateway, prefer="respond-async", api_key=key.reveal()) for _ in range(3)]
        assert [answer.status for answer in answers] == [202, 202, 202]
        other = await ask(gateway, "k-2", prefer="respond-async", api_key=key.reveal())
        assert other.status == 429


async def test_a_key_that_is_none_is_refused(gateway: Gateway, upstream: Upstream) -> None:
    answer = await ask(gateway, "x" * 256, prefer="respond-async")
    assert (answer.status, answer.error["param"]) == (400, "Idempotency-Key")
    assert upstream.calls == []
