"""Laws of jobs whose model has as many requests under way as it may: they wait in line, and cost next to nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.core.limits.terms import Need
from penstock.core.ports import Answer, Call
from penstock.schema.job import COMPLETED, Job
from penstock.schema.key import Caller
from penstock.schema.meter import SECOND, Claim
from tests.laws.jobs import world as worlds
from tests.laws.jobs.mortal import Life
from tests.laws.jobs.world import PATIENCE, Process, Provider


class Gate:
    """Holds every call of a provider until it is opened for one more, and keeps the order in which they came."""

    def __init__(self, provider: Provider) -> None:
        self._answer = provider.complete
        self.came: list[str] = []
        self._open = asyncio.Semaphore(0)

    async def complete(self, call: Call) -> Answer:
        """An answer, once it may be given."""
        self.came.append(call.request_id.partition(".")[0])
        await self._open.acquire()
        return await self._answer(call)

    def let(self, number: int) -> None:
        """Let so many calls through."""
        for _ in range(number):
            self._open.release()


async def until(holds: Callable[[], bool]) -> None:
    """Return when something holds."""
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("backend", ["sqlite", "amazon"])
async def test_the_job_of_the_highest_priority_is_next_when_its_model_has_room(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await worlds.make(backend, tmp_path, monkeypatch)
    world.rooms["m"] = 1
    gates: list[Gate] = []

    def gated(*given: object) -> Gate:
        gates.append(Gate(Provider(*given)))  # type: ignore[arg-type]
        return gates[0]

    monkeypatch.setattr(worlds, "Provider", gated)
    process = Process(world, Life())
    process.consumer.start()
    callers = [Caller(f"key-{number}", priority=priority) for number, priority in enumerate((0, 0, 0, 5, 9))]
    monkeypatch.setattr(process.runner._keyring, "holder", _holder({caller.key_id: caller for caller in callers}))

    jobs = [await process.submit(callers[0])]
    await until(lambda: len(gates[0].came) == 1)
    jobs += [await process.submit(caller) for caller in callers[1:]]
    await _parked(world, 4)
    assert gates[0].came == [jobs[0].id], "one at a time"

    gates[0].let(5)
    await until(lambda: world.ended == 5)
    assert gates[0].came == [jobs[number].id for number in (0, 4, 3, 1, 2)]
    found = [await world.store.find_job(job.id) for job in jobs]
    assert all(job is not None and job.status == COMPLETED for job in found)
    assert max(job.claims for job in found if job) <= 3, "a job that waits is not tried over and over"
    await process.close()
    await world.store.close()
    await world.queue.close()


async def test_jobs_wait_without_being_tried_while_there_is_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await worlds.make("sqlite", tmp_path, monkeypatch)
    world.rooms["m"] = 1
    process = Process(world, Life())
    now = time.time_ns()
    await world.store.reserve("another", [_slot(process, now)], now=now, expires=now + 3600 * SECOND)
    process.consumer.start()
    jobs = [await process.submit() for _ in range(20)]
    await _parked(world, 20)
    before = await _claims(world, jobs)
    assert [await process.usher.turn() for _ in range(3)] == [0, 0, 0]
    assert await _claims(world, jobs) == before == 20
    await process.consumer.close()
    world.rooms["m"] = 4  # another process knows that there is more
    assert [await process.usher.turn() for _ in range(2)] == [3, 0], "no more than there is room for, and each once"
    await process.close()
    await world.store.close()
    await world.queue.close()


def _holder(callers: dict[str, Caller]) -> Callable[[str], object]:
    async def holder(key_id: str) -> Caller:
        return callers[key_id]

    return holder


def _slot(process: Process, now: int) -> Claim:
    terms = process.limiter.plan.of_model("m")
    assert terms is not None
    return terms.claim(Need(), now)


async def _parked(world: worlds.World, number: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while len(await world.store.parked_jobs("m", limit=100)) < number:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.005)


async def _claims(world: worlds.World, jobs: list[Job]) -> int:
    found = [await world.store.find_job(job.id) for job in jobs]
    return sum(job.claims for job in found if job is not None)
