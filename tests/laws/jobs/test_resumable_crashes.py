"""Laws of death for streams that can be resumed: run by who accepted them, and ended once by whoever comes after."""

from __future__ import annotations

import os
import random
from itertools import count
from pathlib import Path

import pytest

from tests.laws.jobs import world as worlds
from tests.laws.jobs.test_job_crashes import look
from tests.laws.jobs.world import COST, World

BACKENDS = ("sqlite", "amazon") if "PENSTOCK_TEST_CRASHES" in os.environ else ("sqlite",)
SWEEP = int(os.environ.get("PENSTOCK_TEST_CRASHES", "12"))


async def make(backend: str, folder: Path, patch: pytest.MonkeyPatch) -> World:
    """A new world whose one job is a stream that is run at once."""
    world = await worlds.make(backend, folder, patch, streamed=True)
    world.resumable = True
    return world


async def end(world: World) -> None:
    """Close what outlived all."""
    await world.store.close()
    await world.queue.close()


@pytest.mark.parametrize("backend", ["sqlite", "amazon"])
async def test_a_stream_that_nobody_kills_takes_no_message(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await make(backend, tmp_path, monkeypatch)
    life = await world.live(submit=True)
    await look(world, what="undisturbed")
    order = [name for name in life.calls if name in (*("reserve", "create_job", "claim_job", "send"), "finish_job")]
    assert order == ["reserve", "reserve", "create_job", "finish_job"]
    assert (await world.spent())[:2] == (COST, COST)
    await end(world)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("backend", BACKENDS)
async def test_whichever_call_is_its_last_the_stream_ends_once_and_is_paid_once(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = set()
    for point in count():
        world = await make(backend, tmp_path, monkeypatch)
        life = await world.live(point, submit=True)
        await world.rest()
        await look(world, what=f"dead at point {point} after {life.calls}")
        ends.add(world.ended)
        await end(world)
        if not life.dead:
            break
    assert point >= 14, "the sweep went through the whole life"
    assert ends == {0, 1}, "some died before the job was accepted, others after it"


@pytest.mark.timeout(max(240, 4 * SWEEP))
@pytest.mark.parametrize("backend", BACKENDS)
async def test_where_successors_die_too_the_next_one_ends_it_once(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(SWEEP):
        chance = random.Random(seed)
        world = await make(backend, tmp_path, monkeypatch)
        lives = [await world.live(chance.randrange(4, 16), submit=True)]
        lives += [await world.live(chance.randrange(1, 14)) for _ in range(chance.randrange(1, 4))]
        await world.rest()
        await look(world, what=f"seed {seed}: {[life.calls for life in lives]}")
        await end(world)
