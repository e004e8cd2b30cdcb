"""Three engines under load: one with a short queue, one drained, one killed. Only begun streams may be cut by that."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from bench.callers import BROKEN, CUT, FAILED, FALSE, Callers, reasons
from tests.e2e.fleet import CONFIG, SECRET, agent, states
from tests.e2e.server import KEY, Server, wait_for
from tests.engine.engine import KEY as ENGINE_KEY
from tests.engine.engine import PATIENCE, Engine

MODEL = "tiny"
CALLERS = 8


@pytest.fixture
def two_more(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, Engine]]:
    """Two engines with room for all callers, beside the one that has little. They start one after the other."""
    folder = tmp_path_factory.mktemp("two-more")
    with ExitStack() as ending:
        started = []
        for name in ("drained", "killed"):
            engine = Engine(folder, name)
            ending.callback(engine.kill)
            started.append(engine.ready())
        yield started[0], started[1]


@pytest.fixture
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("fleet")
    with Server(folder, CONFIG, PENSTOCK_FLEET_SECRET=SECRET, PENSTOCK_ENGINE_API_KEY=ENGINE_KEY) as server:
        yield server


async def until_all_serve(fleet: Server) -> None:
    """Wait until all three may be sent calls."""

    def serve() -> bool:
        told = states(fleet)
        return len(told) == 3 and set(told.values()) <= {"ready", "busy"}

    await asyncio.to_thread(wait_for, serve, "all workers to be ready")


async def test_while_an_engine_is_well_only_a_begun_stream_can_be_lost_and_says_so(
    engine: Engine, two_more: tuple[Engine, Engine], fleet: Server
) -> None:
    drained, killed = two_more
    with (
        agent(fleet, engine.url, "short", ENGINE_KEY),
        agent(fleet, drained.url, "drained", ENGINE_KEY) as leaving,
        agent(fleet, killed.url, "killed", ENGINE_KEY),
    ):
        await until_all_serve(fleet)
        async with Callers(fleet.url, KEY, MODEL, CALLERS, prompt_words=300, tokens=(8, 48)) as callers:
            await callers.go_on(24)
            leaving.terminate()
            await asyncio.to_thread(leaving.wait, PATIENCE)
            await callers.go_on(16)
            assert (await drained.load()).running == 0, "a call was sent to an engine that had left"
            with agent(fleet, drained.url, "drained", ENGINE_KEY):
                await until_all_serve(fleet)
                await callers.go_on(16)
                killed.kill()
                await callers.go_on(40)
    assert reasons(callers.having(FAILED, BROKEN, FALSE)) == {}
    assert all(call.stream for call in callers.having(CUT))
    assert any(outcome["attempts"] > 1 for outcome in fleet.outcomes()), "no queue was ever full"
