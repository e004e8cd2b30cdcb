"""Looking at places: what is down is left alone before a request finds out, and what costs is never called for it."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from penstock.core.health import Prober, Round
from tests.wire import gateway as gateways
from tests.wire.gateway import MODEL, Gateway
from tests.wire.upstream import HELLO, Call, Upstream


class Engine:
    """An SGLang that says whether it is ``ready``, and counts what it is asked."""

    def __init__(self, upstream: Upstream) -> None:
        upstream.script = self
        self.ready = True
        self.asked: Counter[str] = Counter()
        self.release = asyncio.Event()
        self.release.set()

    async def __call__(self, call: Call) -> None:
        """Answer one request."""
        self.asked[call.target] += 1
        if call.method == "POST":
            await self.release.wait()
            call.stream(*HELLO)
        elif call.target == "/ready":
            call.answer({}, 200 if self.ready else 503)
        else:
            call.answer({"data": [{"id": "engine-1"}]} if self.ready else {}, 200 if self.ready else 500)


def row(upstream: Upstream, **fields: Any) -> dict[str, Any]:
    return gateways.provider(upstream.url, type="sglang", **fields)


def prober(gateway: Gateway, **fields: Any) -> Prober:
    """One that looks when it is told to."""
    return Prober(gateway.house.registry, gateway.house.gateway.router, unhealthy_after=2, **fields)


async def served_by(gateway: Gateway) -> str:
    return (await gateway.plain()).headers["x-penstock-deployment"].partition("/")[0]


async def test_what_fails_two_looks_is_left_alone_until_a_look_goes_well(
    tmp_path: Path, upstream: Upstream, second: Upstream
) -> None:
    engine = Engine(upstream)
    Engine(second)
    providers = row(upstream), row(second, name="second", priority=2)
    async with gateways.serve(tmp_path, *providers) as gateway:
        looking = prober(gateway)
        assert (await looking.run()).down == 0
        engine.ready = False
        assert (await looking.run()).down == 0, "once may be chance"
        assert (await looking.run()).down == 1
        assert await served_by(gateway) == "second"
        engine.ready = True
        assert (await looking.run()).down == 0
        assert await served_by(gateway) == "first"


async def test_other_processes_are_told(tmp_path: Path, upstream: Upstream, second: Upstream) -> None:
    engine = Engine(upstream)
    Engine(second)
    providers = row(upstream), row(second, name="second", priority=2)
    async with gateways.serve(tmp_path, *providers) as one, gateways.serve(tmp_path, *providers) as two:
        engine.ready = False
        looking = prober(one)
        await looking.run()
        await looking.run()
        board = two.house.gateway.router.board
        assert board is not None
        await board.read()
        assert await served_by(two) == "second"


async def test_a_model_disappears_when_none_of_its_services_answers_and_comes_back(
    tmp_path: Path, upstream: Upstream, second: Upstream
) -> None:
    first, other = Engine(upstream), Engine(second)
    async with gateways.serve(tmp_path, row(upstream), row(second, name="second")) as gateway:

        async def listed() -> list[str]:
            return [model["id"] for model in (await gateway.client.get("/v1/models")).json()["data"]]

        looking = prober(gateway)
        for engines_ready, models in (((True, False), [MODEL]), ((False, False), []), ((False, True), [MODEL])):
            first.ready, other.ready = engines_ready
            await looking.run()
            await looking.run()
            assert await listed() == models, engines_ready


async def test_where_a_request_was_served_nobody_looks(tmp_path: Path, upstream: Upstream) -> None:
    engine = Engine(upstream)
    async with gateways.serve(tmp_path, row(upstream)) as gateway:
        await gateway.plain()
        await prober(gateway).run()
    assert engine.asked["/ready"] == 0


async def test_the_only_one_is_asked_although_it_is_down(tmp_path: Path, upstream: Upstream) -> None:
    engine = Engine(upstream)
    async with gateways.serve(tmp_path, row(upstream)) as gateway:
        engine.ready = False
        looking = prober(gateway)
        await looking.run()
        assert (await looking.run()).down == 1
        assert await served_by(gateway) == "first"


async def test_a_long_prefill_does_not_take_a_place_out(tmp_path: Path, upstream: Upstream, second: Upstream) -> None:
    engine = Engine(upstream)
    Engine(second)

    async def busy(call: Call) -> None:
        """Nobody answers ``/ready`` while the prompt is being read."""
        if call.target != "/ready":
            await engine(call)

    upstream.script = busy
    providers = row(upstream), row(second, name="second", priority=2)
    async with gateways.serve(tmp_path, *providers) as gateway:
        engine.release.clear()
        reading = asyncio.ensure_future(served_by(gateway))
        async with asyncio.timeout(10):
            while not engine.asked["/v1/chat/completions"]:  # noqa: ASYNC110 - what is waited for tells nobody
                await asyncio.sleep(0.005)
        looking = prober(gateway, interval=0, timeout=0.05)
        for _ in range(3):
            assert (await looking.run()).down == 0
        engine.release.set()
        assert await reading == "first"


async def test_what_sleeps_is_let_sleep(tmp_path: Path, upstream: Upstream) -> None:
    engine = Engine(upstream)
    async with gateways.serve(tmp_path, row(upstream, cold_start={"seconds": 40})) as gateway:
        await prober(gateway).run()
    assert not engine.asked


@pytest.mark.parametrize("kind", ["openai", "groq", "anthropic"])
async def test_a_vendor_is_asked_for_its_models_and_for_nothing_that_costs(
    tmp_path: Path, upstream: Upstream, kind: str
) -> None:
    engine = Engine(upstream)
    async with gateways.serve(tmp_path, gateways.provider(upstream.url, type=kind)) as gateway:
        await prober(gateway).run()
    assert len(engine.asked) == 1
    assert "/models" in next(iter(engine.asked))


def counted(looking: Prober, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows by one with each round."""
    rounds: list[None] = []
    run = looking.run

    async def noted() -> Round:
        rounds.append(None)
        return await run()

    monkeypatch.setattr(looking, "run", noted)
    return rounds


async def test_one_of_several_processes_looks(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(upstream)
    async with gateways.serve(tmp_path, row(upstream)) as one, gateways.serve(tmp_path, row(upstream)) as two:
        probers = [prober(gateway, interval=0.1) for gateway in (one, two)]
        rounds = [counted(each, monkeypatch) for each in probers]
        for each in probers:
            each.start()
        async with asyncio.timeout(10):
            while engine.asked["/ready"] < 5:  # noqa: ASYNC110 - what is waited for tells nobody
                await asyncio.sleep(0.005)
        for each in probers:
            await each.close()
        assert sorted(map(len, rounds))[0] == 0


async def test_when_no_place_is_well_the_caller_is_told_so(tmp_path: Path, upstream: Upstream) -> None:
    async def away(call: Call) -> None:
        call.reset()

    upstream.script = away
    async with gateways.serve(tmp_path, row(upstream)) as gateway:
        looking = prober(gateway)
        assert (await gateway.plain()).status == 502, "its own failure, while nobody knows better"
        await looking.run()
        await looking.run()
        reply = await gateway.plain()
    assert (reply.status, reply.error["code"]) == (503, "provider_unavailable")
    assert [attempt["deployment"] for attempt in reply.error["attempts"]] == ["first/public-1"]


async def test_where_it_is_switched_off_nobody_looks(tmp_path: Path, upstream: Upstream) -> None:
    engine = Engine(upstream)
    async with gateways.serve(tmp_path, row(upstream)) as gateway:
        await prober(gateway, enabled=False).run()
    assert not engine.asked
