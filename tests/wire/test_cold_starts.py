"""A place that sleeps: requests go elsewhere or wait, and who waits for a stream is told so."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import openai
import pytest

from penstock.core.routing import warming
from tests.wire import gateway as gateways
from tests.wire.gateway import KEY, MODEL
from tests.wire.upstream import HELLO, Call, Upstream, answering, completion

COLD = {"seconds": 40, "budget": 30, "idle": 300}
WARMING = b": warming public-1, 0s of about 40s\n\n"


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warming, "AGAIN", 0.02)
    monkeypatch.setattr(warming, "TOLD", 0.05)


class Sleeper:
    """An engine that is 503 to everything, its ``/ready`` too, until ``awake``."""

    def __init__(self, upstream: Upstream) -> None:
        upstream.script = self
        self.awake = asyncio.Event()
        self.looks = self.calls = 0

    async def __call__(self, call: Call) -> None:
        """Answer one request."""
        self.looks += call.target == "/ready"
        self.calls += call.method == "POST"
        if not self.awake.is_set():
            call.answer({"detail": "no replica"}, 503)
        elif call.target == "/ready":
            call.answer({})
        else:
            call.stream(*HELLO)

    async def looked_at(self) -> None:
        """Wait until the gateway waits for it."""
        async with asyncio.timeout(10):
            while self.looks < 2:  # noqa: ASYNC110 - what is waited for tells nobody
                await asyncio.sleep(0.005)


def sleeping(upstream: Upstream, **fields: Any) -> dict[str, Any]:
    return gateways.provider(upstream.url, type="sglang", cold_start={**COLD, **fields})


async def test_a_stream_waits_with_comments_that_tell_the_truth(tmp_path: Path, upstream: Upstream) -> None:
    sleeper = Sleeper(upstream)
    async with gateways.serve(tmp_path, sleeping(upstream)) as gateway:
        async with gateway.open({"stream": True}) as live:
            await live.until(lambda body: body.count(WARMING) >= 3)
            assert live.body == WARMING * live.body.count(WARMING)
            sleeper.awake.set()
            await live.rest()
        assert (live.text, live.ended_well()) == ("Hello there", True)
        outcome = await gateway.outcome()
    assert (outcome.ended, outcome.attempts, sleeper.calls) == ("ok", 1, 1)


async def test_openai_s_client_waits_as_well(tmp_path: Path, upstream: Upstream) -> None:
    sleeper = Sleeper(upstream)
    async with gateways.serve(tmp_path, sleeping(upstream)) as gateway:
        client = openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0)
        streamed = asyncio.ensure_future(_read(client, stream=True))
        plain = asyncio.ensure_future(_read(client, stream=False))
        await sleeper.looked_at()
        sleeper.awake.set()
        assert await asyncio.gather(streamed, plain) == ["Hello there", "Hello there"]
        await client.close()


async def _read(client: openai.AsyncOpenAI, *, stream: bool) -> str:
    messages: Any = [{"role": "user", "content": "Hello"}]
    if not stream:
        answer = await client.chat.completions.create(model=MODEL, messages=messages)
        return answer.choices[0].message.content or ""
    chunks = await client.chat.completions.create(model=MODEL, messages=messages, stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])


async def test_fifty_requests_wait_and_one_look_at_a_time_is_made(tmp_path: Path, upstream: Upstream) -> None:
    sleeper = Sleeper(upstream)
    async with gateways.serve(tmp_path, sleeping(upstream)) as gateway:
        replies = [asyncio.ensure_future(gateway.plain()) for _ in range(50)]
        await sleeper.looked_at()
        looks = sleeper.looks
        sleeper.awake.set()
        assert {reply.status for reply in await asyncio.gather(*replies)} == {200}
    assert sleeper.looks <= looks + 2
    assert sleeper.calls == 50


async def test_a_request_goes_elsewhere_meanwhile_and_the_place_is_woken_all_the_same(
    tmp_path: Path, upstream: Upstream, second: Upstream
) -> None:
    sleeper = Sleeper(upstream)
    second.script = answering(completion())
    other = gateways.provider(second.url, name="second", priority=2)
    async with gateways.serve(tmp_path, sleeping(upstream), other) as gateway:
        assert (await gateway.plain()).headers["x-penstock-deployment"] == "second/public-1"
        await sleeper.looked_at()
        sleeper.awake.set()
        async with asyncio.timeout(10):
            while (await gateway.plain()).headers["x-penstock-deployment"] != "first/public-1":  # noqa: ASYNC110 - what is waited for tells nobody
                await asyncio.sleep(0.01)


async def test_where_it_shall_be_waited_for_it_keeps_its_rank(
    tmp_path: Path, upstream: Upstream, second: Upstream
) -> None:
    sleeper = Sleeper(upstream)
    second.script = answering(completion())
    other = gateways.provider(second.url, name="second", priority=2)
    async with gateways.serve(tmp_path, sleeping(upstream, wait=True), other) as gateway:
        waiting = asyncio.ensure_future(gateway.plain())
        await sleeper.looked_at()
        sleeper.awake.set()
        assert (await waiting).headers["x-penstock-deployment"] == "first/public-1"


async def test_once_the_budget_is_spent_the_next_place_is_asked(
    tmp_path: Path, upstream: Upstream, second: Upstream
) -> None:
    Sleeper(upstream)
    second.script = answering(completion())
    other = gateways.provider(second.url, name="second", priority=2)
    async with gateways.serve(tmp_path, sleeping(upstream, wait=True, budget=0.3), other) as gateway:
        reply = await gateway.plain()
    assert (reply.status, reply.headers["x-penstock-deployment"]) == (200, "second/public-1")
    assert reply.headers["x-penstock-attempts"] == "2"


@pytest.mark.parametrize("stream", [False, True])
async def test_where_there_is_no_other_the_caller_is_told_why(tmp_path: Path, upstream: Upstream, stream: bool) -> None:
    Sleeper(upstream)
    async with gateways.serve(tmp_path, sleeping(upstream, budget=0.3)) as gateway:
        reply = await (gateway.stream() if stream else gateway.plain())
    error = reply.failed_with() if stream else reply.error
    assert (error["code"], error["message"]) == ("upstream_timeout", "first did not wake up within 0.3 s")
    if not stream:
        assert reply.status == 504


async def test_a_place_that_has_just_answered_is_not_looked_at_first(tmp_path: Path, upstream: Upstream) -> None:
    sleeper = Sleeper(upstream)
    sleeper.awake.set()
    async with gateways.serve(tmp_path, sleeping(upstream)) as gateway:
        for _ in range(3):
            assert (await gateway.plain()).status == 200
    assert (sleeper.looks, sleeper.calls) == (1, 3)


async def test_the_word_that_wakes_it_is_sent_once(tmp_path: Path, upstream: Upstream, second: Upstream) -> None:
    sleeper, told = Sleeper(upstream), []

    async def scaler(call: Call) -> None:
        told.append((call.method, call.target))
        call.answer({})

    second.script = scaler
    async with gateways.serve(tmp_path, sleeping(upstream, wake_url=f"{second.url}/up")) as gateway:
        waiting = asyncio.ensure_future(gateway.plain())
        await sleeper.looked_at()
        sleeper.awake.set()
        assert (await waiting).status == 200
    assert [method for method, _ in told] == ["POST"]
    assert told[0][1].endswith("/up")
