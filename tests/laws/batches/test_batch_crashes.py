"""Laws of death: whichever call is a process's last, a batch ends, each of its lines once, paid for once."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penstock.core.batches import accepting, driver, ending, turns
from penstock.core.batches.accepting import Batches
from penstock.core.batches.driver import Driver
from penstock.core.batches.turns import Turns
from penstock.core.files import shelf
from penstock.core.files.shelf import Shelf
from penstock.core.jobs.bulk import Bulk
from penstock.core.ports.objects import one, whole
from penstock.schema.batch import COMPLETED, ENDPOINT
from penstock.schema.config import BatchSection, FileSection
from penstock.schema.file import BATCH, File
from tests.laws.jobs import world as worlds
from tests.laws.jobs.mortal import Died, Life, Mortal
from tests.laws.jobs.world import BODY, BOUND, CALLER, COST, PATIENCE, Process, World

LONG = bool(os.environ.get("PENSTOCK_TEST_LONG"))
DEATHS = int(os.environ.get("PENSTOCK_TEST_CRASHES", "12"))
"""Points of death that are tried, drawn by chance; in the long mode all points of a first death, and then as many more
with successors that die as well."""
WEEK: tuple[str, float] = ("7d", 7 * 86400.0)
NAMES = ["a", "b", "refused", "c", "d"]


class Driving(Process):
    """A process that takes turns of batches as well."""

    def __init__(self, world: World, life: Life) -> None:
        super().__init__(world, life)
        store: Any = Mortal(world.store, life, world.saw)
        queue: Any = Mortal(world.queue, life, world.saw)
        objects: Any = Mortal(world.objects, life, world.saw)
        files = Shelf(store, objects, FileSection())
        driving = Driver(store, queue, files, Bulk(objects, 0), BatchSection(window=3), longest=4096)
        self.batches = Batches(store, queue, files)
        self.runner._errands = {ENDPOINT: Turns(store, queue, driving, self.desk.announcer).take}


class Story:
    """A batch in a world where processes die."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.files = Shelf(world.store, world.objects, FileSection())
        self.input: File
        self.begun = False

    async def begin(self) -> None:
        """Keep the input."""
        asked = [{"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": BODY} for name in NAMES]
        asked[2] = asked[2] | {"body": BODY | {"messages": 5}}
        file = await self.files.write(
            await self.files.begin(CALLER.key_id), one("\n".join(map(json.dumps, asked)).encode())
        )
        self.input = await self.files.publish(File(file.id, file.key_id, BATCH, "in", 0, 0, file.size, 1))

    async def live(self, ends: int | None = None) -> Life:
        """Let a process live until it dies or nothing is left to be done; the first one hands the batch in."""
        world = self.world
        process = Driving(world, life := Life(ends))
        try:
            if not self.begun:
                self.begun = True
                asked: dict[str, Any] = {"file_id": self.input.id, "endpoint": "/v1/chat/completions", "metadata": ""}
                await process.batches.create(CALLER, window=WEEK, seconds=0, **asked)
            await process.resender.turn()
            process.consumer.start()
            async with asyncio.timeout(PATIENCE):
                while not life.dead and await world.jobs():
                    world.happened.clear()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(0.03):
                            await world.happened.wait()
        except Died:
            pass
        await process.close()
        world.clock.ahead += 3600 + world.clock.ahead
        return life

    async def look(self, what: str) -> bool:
        """No line is lost, none is there twice, none is paid for twice; ``False`` if no batch was accepted."""
        assert not await self.world.jobs(), f"{what}: a job never ended"
        outcomes = await self.world.store.list_outcomes()
        listed = await self.world.store.list_batches(CALLER.key_id, now=0.0, limit=5)
        if not listed:
            assert not outcomes, f"{what}: nothing was accepted"
            return False
        (found,) = listed
        assert found.status == COMPLETED, f"{what}: {found}"
        assert (found.total, found.completed, found.failed) == (5, 4, 1), what
        assert await self.names(found.output_file_id) == ["a", "b", "c", "d"], what
        assert await self.names(found.error_file_id) == ["refused"], what
        budget, ledger, slots = await self.world.spent()
        assert len({outcome.request_id for outcome in outcomes}) == len(outcomes) == 4, what
        assert (ledger, slots) == (4 * COST, 0), what
        assert 4 * COST <= budget <= 4 * BOUND, f"{what}: the budget paid {budget}"
        return True

    async def names(self, file_id: str) -> list[str]:
        """Whom the lines of a file name."""
        file = await self.files.find(file_id, CALLER.key_id)
        content = await whole(self.files.content(file))
        assert len(content) == file.size
        return [json.loads(line)["custom_id"] for line in content.splitlines()]


@pytest.fixture
async def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """Makes stories, each in a world of its own."""
    monkeypatch.setattr(driver, "CHUNK", 2)
    monkeypatch.setattr(driver, "SPAN", 4)
    roomy = replace(worlds.PLAN.key, concurrency=50)  # a slot that the dead held is free when its hold is over
    monkeypatch.setattr(worlds, "PLAN", replace(worlds.PLAN, key=roomy))
    monkeypatch.setattr(turns, "SOON", 0.0)
    monkeypatch.setattr(turns, "LATER", 0.01)
    made: list[World] = []

    async def make(backend: str) -> Story:
        world = await worlds.make(f"{backend}-large", tmp_path, monkeypatch)
        for module in (accepting, driver, ending, turns, shelf):
            monkeypatch.setattr(module, "time", world.clock)
        made.append(world)
        await (story := Story(world)).begin()
        return story

    yield make
    for world in made:
        await world.store.close()
        await world.queue.close()


@pytest.mark.parametrize("backend", ["sqlite", "amazon"])
async def test_a_batch_that_nobody_kills_ends_with_every_line_once(make: Any, backend: str) -> None:
    story = await make(backend)
    life = await story.live()
    assert await story.look("undisturbed")
    assert life.calls.count("create_job") == 6, "each line is a job, and one drives them"
    assert (await story.world.spent())[0] == 4 * COST


@pytest.mark.timeout(3600 if LONG else 120)
async def test_whichever_call_is_its_last_a_batch_ends_with_every_line_once(make: Any) -> None:
    whole_life = (await (await make("sqlite")).live()).points
    chance = random.Random(6)
    accepted = 0
    firsts = list(range(whole_life)) if LONG else []
    firsts += [chance.randrange(whole_life) for _ in range(DEATHS)]
    for story_number, first in enumerate(firsts):
        story = await make("sqlite")
        lives = [await story.live(first)]
        if not LONG or story_number >= whole_life:
            lives += [await story.live(chance.randrange(1, whole_life // 2)) for _ in range(chance.randrange(3))]
        lives += [await story.live() for _ in range(2)]
        accepted += await story.look(f"dead at {[life.ends for life in lives]}: {lives[0].calls[-3:]}")
    assert accepted >= len(firsts) // 2
    print(f"{len(firsts)} stories of {whole_life} points each, {accepted} of them with a batch")
