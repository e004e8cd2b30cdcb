"""Laws of death: whichever call of a job's life is a process's last, the job ends once, and is paid for once."""

from __future__ import annotations

import asyncio
import json
import os
import random
from itertools import chain, count
from pathlib import Path
from typing import Any

import pytest

from penstock.core.jobs import runner
from penstock.core.jobs.bulk import Bulk
from penstock.errors import StateError
from penstock.schema.job import COMPLETED
from tests.laws.jobs import world as worlds
from tests.laws.jobs.world import BOUND, COST, PATIENCE, World

BACKENDS = ("sqlite", "amazon", "sqlite-large")
SLOW = "PENSTOCK_TEST_CRASHES" in os.environ
SWEEP = int(os.environ.get("PENSTOCK_TEST_CRASHES", "12"))
"""Lives in which the successor dies as well, drawn by chance; all points of the first death are always tried."""


async def look(world: World, *, what: str) -> None:
    """Nothing is lost, nothing has happened twice."""
    for accepted in world.accepted:
        job = await world.store.find_job(accepted.id)
        assert job is not None, f"{what}: a job that was accepted is lost"
        assert job.status == COMPLETED, f"{what}: {job.status} {job.error}"
        assert job.result.startswith(b"@" if world.objects is not None else b"{"), what
        result = await Bulk(world.objects, 0).whole(job.result)
        assert b"answer" in result, what
        if world.reading is not None:
            said = await asyncio.wait_for(world.reading, PATIENCE)
            assert said == json.loads(result)["choices"][0]["message"]["content"].encode(), what
    assert not await world.jobs(), f"{what}: a job never ended"
    assert world.ended <= 1, f"{what}: two ends were written"
    budget, ledger, slots = await world.spent()
    assert ledger == COST * world.ended, f"{what}: the ledger has it {ledger / COST:g} times"
    assert slots == 0, f"{what}: a slot was never freed"
    assert COST * world.ended <= budget, what
    assert budget in (COST * world.ended, BOUND), f"{what}: the budget paid {budget}"


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def streamed(request: pytest.FixtureRequest) -> bool:
    found: bool = request.param
    return found


async def test_a_job_that_nobody_kills_ends_once(
    backend: str, streamed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await worlds.make(backend, tmp_path, monkeypatch, streamed=streamed)
    life = await world.live(submit=True)
    await look(world, what="undisturbed")
    assert world.ended == 1
    unordered = ("receive", "prune_jobs", "prune_deliveries", "postpone_job", "put", "delete")
    order = [name for name in life.calls if name not in unordered]
    assert ("append_chunks" in order) is streamed
    if streamed:
        assert order[order.index("record_outcomes") :][:2] == ["record_outcomes", "append_chunks"]
        order = [name for name in order if name != "append_chunks"]
    assert order == [
        *("reserve", "create_job", "send", "claim_job", "done", "reserve", "record_outcomes", "finish_job", "settle")
    ]
    assert (await world.spent())[:2] == (COST, COST)
    await world.store.close()
    await world.queue.close()


async def test_an_end_that_was_written_without_an_answer_is_paid_as_what_it_was(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "AGAIN", 0.01)
    world = await worlds.make(backend, tmp_path, monkeypatch)
    finish, calls = world.store.finish_job, 0

    async def silently(*args: Any, **kwargs: Any) -> bool:
        nonlocal calls
        calls += 1
        done = await finish(*args, **kwargs)
        if calls == 1:
            raise StateError("The store was slow to say that it has written.")
        return done

    monkeypatch.setattr(world.store, "finish_job", silently)
    await world.live(submit=True)
    assert calls == 2
    [job] = world.accepted
    found = await world.store.find_job(job.id)
    assert found is not None
    assert found.status == COMPLETED
    assert await world.spent() == (COST, COST, 0)
    await world.store.close()
    await world.queue.close()


@pytest.mark.timeout(240)
async def test_whichever_call_is_its_last_the_job_ends_once_and_is_paid_once(
    backend: str, streamed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = set()
    stride = 1 if SLOW or not (streamed and backend == "amazon") else 3
    for point in chain([0], count(6 if streamed else 1, stride)):  # until it is sent, what is streamed lives as all do
        world = await worlds.make(backend, tmp_path, monkeypatch, streamed=streamed)
        life = await world.live(point, submit=True)
        await world.rest()
        await look(world, what=f"dead at point {point} after {life.calls}")
        ends.add(world.ended)
        await world.store.close()
        await world.queue.close()
        if not life.dead:
            break
    assert point >= 18, "the sweep went through the whole life"
    assert ends == {0, 1}, "some died before the job was accepted, others after it"


@pytest.mark.timeout(max(240, 4 * SWEEP))
async def test_where_successors_die_too_the_next_one_ends_the_job_once(
    backend: str, streamed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if streamed and backend == "amazon" and not SLOW:
        pytest.skip("the slow mode: PENSTOCK_TEST_CRASHES=12")
    deaths = 0
    for seed in range(SWEEP):
        chance = random.Random(seed)
        world = await worlds.make(backend, tmp_path, monkeypatch, streamed=streamed)
        lives = [await world.live(chance.randrange(6, 20), submit=True)]
        lives += [await world.live(chance.randrange(1, 14)) for _ in range(chance.randrange(1, 4))]
        await world.rest()
        await look(world, what=f"seed {seed}: {[life.calls for life in lives]}")
        deaths += sum(life.dead for life in lives)
        await world.store.close()
        await world.queue.close()
    print(f"{backend}, {'streamed' if streamed else 'whole'}: {SWEEP} stories, {deaths} deaths")
    assert deaths >= SWEEP


@pytest.mark.timeout(240)
async def test_a_request_that_is_sent_again_under_its_key_is_served_once_whoever_died_at_it(
    backend: str, streamed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (backend == "sqlite-large" or (streamed and backend == "amazon")) and not SLOW:
        pytest.skip("the slow mode: PENSTOCK_TEST_CRASHES=12")
    for point in count(0, 1 if SLOW or backend != "amazon" else 3):
        world = await worlds.make(backend, tmp_path, monkeypatch, streamed=streamed)
        world.key = "k-1"
        life = await world.live(point, submit=True)
        await world.live(submit=True)  # its client asks again, and somebody who lives is told of it
        await world.rest()
        what = f"dead at point {point} after {life.calls}"
        assert len({job.id for job in world.accepted}) == 1, what
        assert world.ended == 1, what
        await look(world, what=what)
        await world.store.close()
        await world.queue.close()
        if not life.dead:
            break
    assert point >= 12, "the sweep went through the whole life"
