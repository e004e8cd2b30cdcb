"""Laws of death between a job's end and its telling: whichever call is the last, the webhook hears of it, as of one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from penstock.schema.webhook import DELIVERED
from tests.laws.jobs import world as worlds
from tests.laws.jobs.test_job_crashes import SWEEP
from tests.laws.jobs.world import CALLER, World

CHAIN = ["finish_job", "create_delivery", "told_job", "claim_delivery", "settle_delivery"]


async def look(world: World, *, what: str) -> None:
    """Every end was told, under one name, however often; nobody waits for anything."""
    assert not await world.jobs(), f"{what}: a job's end was never told"
    assert not await world.unsent(), f"{what}: a delivery was never sent"
    for accepted in world.accepted:
        told = [(name, message) for name, message in world.received if message["data"]["id"] == accepted.id]
        assert told, f"{what}: nobody heard of a job that was accepted"
        assert len({name for name, _ in told}) == 1, f"{what}: one event has two names"
        assert {message["type"] for _, message in told} == {"job.completed"}, what
    assert len({name for name, _ in world.received}) == world.ended, f"{what}: something was told that never happened"


@pytest.fixture(params=["sqlite", "amazon"])
def backend(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


async def test_a_process_that_nobody_kills_tells_the_end_once(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await worlds.make(backend, tmp_path, monkeypatch)
    await world.register()
    life = await world.live(submit=True)
    await look(world, what="undisturbed")
    assert [name for name in life.calls if name in CHAIN] == CHAIN
    assert len(world.received) == 1
    (delivery,) = await world.store.list_deliveries("wh_1", before=1e11, limit=10)
    assert (delivery.status, delivery.key_id, len(delivery.log)) == (DELIVERED, CALLER.key_id, 1)
    await world.store.close()
    await world.queue.close()


@pytest.mark.timeout(240)
async def test_whichever_call_is_its_last_the_end_is_told(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await worlds.make(backend, tmp_path, monkeypatch)
    undisturbed = await world.live(submit=True)
    await world.store.close()
    await world.queue.close()
    point, told = 2 * undisturbed.calls.index("finish_job"), []
    while True:
        world = await worlds.make(backend, tmp_path, monkeypatch)
        await world.register()
        life = await world.live(point, submit=True)
        await world.rest()
        await look(world, what=f"dead at point {point} after {life.calls}")
        told.append(len(world.received))
        await world.store.close()
        await world.queue.close()
        if not life.dead:
            break
        point += 1
    assert len(told) > 10, "the sweep went through the whole chain"
    assert set(told) == {1, 2}, "some died after it was told, and before they could note it"


@pytest.mark.timeout(240)
async def test_where_successors_die_too_the_next_one_tells_the_end(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(SWEEP // 2):
        chance = random.Random(seed)
        world = await worlds.make(backend, tmp_path, monkeypatch)
        await world.register()
        lives = [await world.live(chance.randrange(14, 32), submit=True)]
        lives += [await world.live(chance.randrange(1, 12)) for _ in range(chance.randrange(1, 3))]
        await world.rest()
        await look(world, what=f"seed {seed}: {[life.calls for life in lives]}")
        await world.store.close()
        await world.queue.close()
