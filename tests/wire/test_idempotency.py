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
from tests.wire.upstream import Upstream, answering, completion


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
