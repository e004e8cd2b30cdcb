"""Laws of death where a worker asks for the job: gateway or agent may die, the job ends once and is paid once."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from penstock.core import fleet
from penstock.core.fleet import Fleet
from penstock.core.jobs import pulled
from penstock.core.jobs.pulled import LATE, UNKNOWN, Handed, PulledJobs
from penstock.core.ports import Posted
from penstock.core.registry import ModelRegistry
from penstock.errors import StateError
from penstock.providers._posted import Letters
from penstock.schema.job import CANCELLED, COMPLETED, FAILED, PROCESSING, QUEUED
from penstock.schema.secret import Secret
from penstock.schema.worker import READY, Worker
from tests.laws.jobs import world as worlds
from tests.laws.jobs.mortal import Died, Life
from tests.laws.jobs.test_job_crashes import SWEEP, look
from tests.laws.jobs.world import COST, PATIENCE, USAGE, Process, World

BACKENDS = ("sqlite", "amazon")


def said(text: str) -> Posted:
    """What an engine's stream says that answers with one word after the other."""
    deltas: list[dict[str, Any]] = [{"delta": {"content": f"{word} "}, "finish_reason": None} for word in text.split()]
    chunks: list[dict[str, Any]] = [{"choices": [{"index": 0, **delta}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    chunks.append({"choices": [], "usage": USAGE})
    common = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    lines = [f"data: {json.dumps(common | chunk)}\n\n" for chunk in chunks]
    return Posted(200, "text/event-stream", "".join([*lines, "data: [DONE]\n\n"]).encode())


class PullingProcess(Process):
    """A gateway that nobody but pulled workers stands behind, and one of those, which outlives it."""

    agent: asyncio.Task[None] | None = None

    def __init__(self, world: PulledWorld, life: Life) -> None:
        super().__init__(world, life)
        self.world = world
        self.pulled = PulledJobs(self.mortal, self.fleet, self.gateway, self.runner, Letters())

    def registry(self, store: Any, provider: Any) -> ModelRegistry:
        """What models there are: those of workers."""
        self.mortal = store
        self.fleet = Fleet(store, Secret("a-secret-of-the-fleet"))
        return ModelRegistry(store, [], [], lambda _: provider, fleet=self.fleet)

    def start(self) -> None:
        """Run jobs, and let the worker ask for some."""
        super().start()
        self.agent = asyncio.ensure_future(self._ask())

    async def close(self) -> None:
        """End in order."""
        if self.agent is not None:
            self.agent.cancel()
            await asyncio.gather(self.agent, return_exceptions=True)
        await super().close()

    async def _ask(self) -> None:
        while not self.life.dead:
            hands = self.world.hands
            hands += [(job, said(f"answer {job.receipt}")) for job in await self.claim()]
            while hands:
                job, posted = hands[0]
                await self.pulled.answer("paid", job.id, job.receipt, posted)
                hands.pop(0)
            await asyncio.sleep(0.002)

    async def claim(self, most: int = 1) -> list[Handed]:
        """What the worker gets that asks now."""
        worker = await self.fleet.find("paid")
        assert worker is not None
        return await self.pulled.claim(worker, most=most, wait=0)


class PulledWorld(World):
    """A world with a worker; ``hands`` is what the worker has, and has to tell."""

    hands: list[tuple[Handed, Posted]]

    async def join(self) -> None:
        """Let the worker say that it is there."""
        lease = self.clock.time() + 30
        await self.store.register_worker(
            Worker("paid", "g", "", ("m",), READY, "sglang", lease_until=lease, pulls=True)
        )

    async def live(self, ends: int | None = None, *, submit: bool = False) -> Life:
        """Let a gateway live beside the worker."""
        await self.join()
        return await super().live(ends, submit=submit)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


async def make(backend: str, folder: Path, patch: pytest.MonkeyPatch, *, streamed: bool = False) -> PulledWorld:
    """A new world, all of it in SQLite files, or in DynamoDB and SQS."""
    patch.setattr(worlds, "Process", PullingProcess)
    patch.setattr(worlds, "World", PulledWorld)
    made: Any = await worlds.make(backend, folder, patch, streamed=streamed)
    made.hands = []
    for module in (fleet, pulled):
        patch.setattr(module, "time", made.clock)
    found: PulledWorld = made
    return found


async def end(world: World) -> None:
    """Close what outlived all."""
    await world.store.close()
    await world.queue.close()


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_job_that_a_worker_asks_for_is_parked_at_once_and_ends_once(
    backend: str, streamed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await make(backend, tmp_path, monkeypatch, streamed=streamed)
    life = await world.live(submit=True)
    await look(world, what="undisturbed")
    order = [name for name in life.calls if name not in ("receive", "append_chunks") and name[:5] != "prune"]
    assert order == [
        *("reserve", "create_job", "claim_job", "reserve", "reserve", "record_outcomes", "finish_job", "settle")
    ], "no message is sent, and the reservation is made once: the second finds it"
    assert (await world.spent())[:2] == (COST, COST)
    await end(world)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("backend", "agent"), [("sqlite", "lives"), ("sqlite", "dies"), ("amazon", "lives")])
async def test_whichever_call_is_the_gateways_last_the_job_ends_once_and_is_paid_once(
    backend: str, agent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = 0
    while True:
        world = await make(backend, tmp_path, monkeypatch)
        life = await world.live(point, submit=True)
        if agent == "dies":
            world.hands.clear()
        await world.rest()
        await look(world, what=f"dead at point {point} after {life.calls}")
        await end(world)
        if not life.dead:
            break
        point += 1 if backend == "sqlite" else 3
    assert point >= 14, "the sweep went through the whole life"


@pytest.mark.timeout(240)
async def test_where_successors_and_agents_die_too_the_next_one_ends_the_job_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(SWEEP):
        chance = random.Random(seed)
        world = await make(BACKENDS[seed % 6 == 5], tmp_path, monkeypatch)
        lives = []
        for number in range(chance.randrange(2, 5)):
            lives.append(await world.live(chance.randrange(4, 18), submit=not number))
            if chance.random() < 0.5:
                world.hands.clear()
        await world.rest()
        await look(world, what=f"seed {seed}: {[life.calls for life in lives]}")
        await end(world)


async def test_two_workers_that_ask_at_once_get_each_job_once(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await make(backend, tmp_path, monkeypatch)
    await world.join()
    processes = [PullingProcess(world, Life()) for _ in range(3)]
    jobs = [(await processes[0].submit()).id for _ in range(6)]
    got = await asyncio.gather(*(process.claim(2) for process in processes for _ in range(3)))
    handed = [job.id for claimed in got for job in claimed]
    assert len(handed) == len(set(handed)) == 1, "as many as the key's concurrency admits"
    assert set(handed) <= set(jobs)
    for process in processes:
        await process.close()
    await end(world)


async def test_what_a_worker_posts_late_or_twice_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await make("sqlite", tmp_path, monkeypatch)
    await world.join()
    process = PullingProcess(world, Life())
    job = await process.submit()
    [first] = await process.claim()
    world.clock.ahead += 31
    await world.join()
    assert await process.claim() == [], "it is told again by whoever looks after due jobs"
    assert (await process.pulled.renew("paid", {job.id: first.receipt})) == {job.id: "held"}, "nobody has it yet"
    await process.pulled.release("paid", {job.id: first.receipt})
    [second] = await process.claim()
    assert second.receipt != first.receipt
    assert (await process.pulled.renew("paid", {job.id: first.receipt})) == {job.id: "lost"}
    assert await process.pulled.answer("paid", job.id, first.receipt, said("late")) == LATE
    assert await process.pulled.answer("other", job.id, second.receipt, said("stolen")) == LATE
    assert await process.pulled.answer("paid", job.id, second.receipt, said("right")) == COMPLETED
    assert await process.pulled.answer("paid", job.id, second.receipt, said("again")) == LATE
    found = await world.store.find_job(job.id)
    assert found is not None
    assert json.loads(found.result)["choices"][0]["message"]["content"] == "right "
    await process.close()
    assert await world.spent() == (COST, COST, 0)
    await end(world)


@pytest.mark.parametrize(
    ("posted", "status", "words"),
    [
        (Posted(trouble="unavailable"), QUEUED, ""),
        (Posted(503, "application/json", b'{"message": "The request queue is full."}'), QUEUED, ""),
        (said("half")._replace(body=said("half").body[:100]), QUEUED, ""),
        (
            Posted(400, "application/json", b'{"message": "temperature must be positive"}'),
            FAILED,
            "temperature must be",
        ),
    ],
)
async def test_what_an_engine_failed_with_is_judged_as_if_it_had_been_called(
    posted: Posted, status: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await make("sqlite", tmp_path, monkeypatch)
    await world.join()
    process = PullingProcess(world, Life())
    job = await process.submit()
    [handed] = await process.claim()
    assert await process.pulled.answer("paid", job.id, handed.receipt, posted) == status
    found = await world.store.find_job(job.id)
    assert found is not None
    assert words in found.error
    assert (found.failures, found.parked) == ((1, False) if status == QUEUED else (0, False)), (
        "it rests before it comes"
    )
    await process.close()
    assert (await world.spent())[1:] == (0, 0)
    await end(world)


async def test_a_job_that_was_cancelled_stops_its_engine_and_is_paid_as_far_as_it_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await make("sqlite", tmp_path, monkeypatch)
    await world.join()
    process = PullingProcess(world, Life())
    job = await process.submit()
    [handed] = await process.claim()
    assert (handed.body["stream"], handed.body["model"], handed.endpoint) == (True, "m", "chat/completions")
    await process.submissions.cancel(job.id, worlds.CALLER)
    assert await process.pulled.renew("paid", {job.id: handed.receipt}) == {job.id: CANCELLED}
    begun = said("one two three")
    begun = Posted(200, begun.content_type, begun.body[: begun.body.index(b'"stop"') - 100], "stopped")
    assert await process.pulled.answer("paid", job.id, handed.receipt, begun) == UNKNOWN, "nobody else has the body"
    assert await process.pulled.answer("paid", job.id, handed.receipt, begun, handed.body) == CANCELLED
    await process.close()
    budget, ledger, slots = await world.spent()
    assert 0 < budget == ledger < worlds.BOUND
    assert slots == 0
    await end(world)


async def test_a_gateway_that_cannot_write_the_end_lets_the_worker_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await make("sqlite", tmp_path, monkeypatch)
    await world.join()
    process, other = PullingProcess(world, Life()), PullingProcess(world, Life())
    job = await process.submit()
    [handed] = await process.claim()
    process.life.dead = True
    with pytest.raises((Died, StateError)):
        await process.pulled.answer("paid", job.id, handed.receipt, said("kept"))
    found = await world.store.find_job(job.id)
    assert found is not None
    assert found.status == PROCESSING
    async with asyncio.timeout(PATIENCE):
        assert await other.pulled.answer("paid", job.id, handed.receipt, said("kept")) == COMPLETED
    await other.close()
    await process.close()
    assert await world.spent() == (COST, COST, 0)
    await end(world)


async def test_a_bound_that_the_house_puts_on_an_answer_is_told_with_the_prompt_s_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await make("sqlite", tmp_path, monkeypatch)
    await world.join()
    process = PullingProcess(world, Life())
    monkeypatch.delitem(worlds.BODY, "max_tokens")
    await process.submit()
    [handed] = await process.claim()
    assert (handed.bound, handed.body["max_tokens"]) == ("max_tokens", 4096)
    assert 256 < handed.prompt < 512
    await process.close()
    await end(world)
