"""Laws of alerts: told once by any number of processes, and, whichever call is a process's last, told all the same."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.core.alerts.rulebook import Rulebook
from penstock.schema.alert import FAILED, FIRING, RESOLVED, SENT
from tests.laws.alerts import world as worlds
from tests.laws.alerts.world import RULE, World

BAD, GOOD = {"summary.error_rate": 0.9}, {"summary.error_rate": 0.1}
EVENTS = [("chat", FIRING), ("chat", RESOLVED), ("mail", FIRING), ("mail", RESOLVED)]


@pytest.fixture(params=["sqlite", "amazon"])
async def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return await worlds.make(request.param, tmp_path, monkeypatch)


def events(world: World) -> list[tuple[str, str]]:
    """What was told to whom, repeats left out."""
    return sorted({(channel, event) for channel, event, _ in world.told})


def ids(world: World) -> int:
    """Under how many names."""
    return len({name for _, _, name in world.told})


async def test_a_process_that_nobody_kills_tells_each_event_once(world: World) -> None:
    for numbers in (BAD, BAD, GOOD, GOOD):
        world.numbers = numbers
        await world.live()
    assert sorted((channel, event) for channel, event, _ in world.told) == EVENTS
    (alert,) = (await world.watch()).alerts
    assert [telling.status for telling in alert.tellings] == [SENT] * 4
    assert [telling.tries for telling in alert.tellings] == [1] * 4


async def test_a_successor_on_the_same_state_tells_nothing_again(world: World) -> None:
    world.numbers = BAD
    for _ in range(3):
        await world.live()
    assert len(world.told) == 2


async def test_eight_processes_at_once_tell_each_event_once(world: World) -> None:
    processes = [world.process() for _ in range(8)]
    for numbers in (BAD, GOOD):
        world.numbers = numbers
        for _ in range(3):
            await asyncio.gather(*(process.run() for process in processes))
    assert not await world.waits()
    assert Counter((channel, event) for channel, event, _ in world.told) == dict.fromkeys(EVENTS, 1)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("backend", ["sqlite", "amazon"])
@pytest.mark.parametrize("numbers", [BAD, GOOD], ids=["firing", "resolved"])
async def test_whichever_call_is_its_last_the_event_is_told(
    backend: str, numbers: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point, counts = 0, Counter[int]()
    while True:
        world = await worlds.make(backend, tmp_path, monkeypatch)
        if numbers is GOOD:
            world.numbers = BAD
            await world.live()
        world.numbers = numbers
        life = await world.live(point)
        for _ in range(3):
            await world.live()
        what = f"dead at point {point} after {life.calls}"
        wanted = EVENTS if numbers is GOOD else [event for event in EVENTS if event[1] == FIRING]
        assert events(world) == wanted, f"{what}: not all was told"
        assert ids(world) == len(wanted), f"{what}: one event has two names"
        assert not await world.waits(), f"{what}: something still waits"
        counts[len(world.told) - len(wanted)] += 1
        await world.store.close()
        if not life.dead:
            break
        point += 1
    assert point >= 10, "the sweep went through the whole chain"
    assert set(counts) == {0, 1, 2}, "some died after they had told, and before they could note it; most did not"


async def test_a_channel_that_fails_is_tried_again_and_keeps_no_other_waiting(world: World) -> None:
    world.numbers, world.broken = BAD, {"mail"}
    await world.live()
    assert events(world) == [("chat", FIRING)]
    world.broken = set()
    await world.live()
    assert events(world) == [("chat", FIRING), ("mail", FIRING)]
    (alert,) = (await world.watch()).alerts
    assert {telling.channel: telling.tries for telling in alert.tellings} == {"mail": 2, "chat": 1}


async def test_a_channel_that_always_fails_is_given_up_in_the_end(world: World) -> None:
    world.numbers, world.broken = BAD, {"mail"}
    for _ in range(5):
        await world.live()
    assert world.refused == 3
    (alert,) = (await world.watch()).alerts
    telling = next(each for each in alert.tellings if each.channel == "mail")
    assert (telling.status, telling.reason) == (FAILED, "it is broken")
    assert not await world.waits()


async def test_the_end_is_not_told_before_the_beginning_was(world: World) -> None:
    world.numbers, world.broken = BAD, {"mail"}
    await world.live()
    world.numbers, world.broken = GOOD, set()
    await world.live()
    await world.live()
    assert [event for channel, event, _ in world.told if channel == "mail"] == [FIRING, RESOLVED]


async def test_without_the_duty_nobody_looks(world: World) -> None:
    async def never(duty: str, seconds: float) -> bool:
        return False

    world.numbers = BAD
    await world.process(take=never).turn()
    assert (await world.watch()).alerts == ()


async def test_where_there_is_no_number_an_alert_stays_as_it_is(world: World) -> None:
    world.numbers = BAD
    await world.live()
    world.numbers = {}
    await world.live()
    assert (await world.watch()).alerts[0].status == FIRING


async def test_a_rule_that_is_removed_while_it_fires_is_told_as_over_and_forgotten_in_time(world: World) -> None:
    world.numbers = BAD
    await world.live()
    book = Rulebook(world.store, {}, ["mail", "chat"], [])
    await book.remove(RULE.name)
    await world.live()
    assert events(world) == EVENTS
    assert await book.every() == []
    assert await world.store.find_watch(RULE.name) is not None, "its alert can still be looked up"
    world.clock.ahead += 8 * 86_400
    await world.live()
    assert await world.store.find_watch(RULE.name) is None


async def test_an_acknowledgement_at_the_same_moment_is_not_lost(world: World) -> None:
    world.numbers = BAD
    await world.live()
    (alert,) = (await world.watch()).alerts
    book = Rulebook(world.store, {}, ["mail", "chat"], [])
    world.numbers = GOOD
    seen = await world.watch()
    acknowledged = await book.acknowledge(alert.id, "ada")
    assert acknowledged.acknowledged_by == "ada"
    await world.live()
    (over,) = (await world.watch()).alerts
    assert (over.status, over.acknowledged_by) == (RESOLVED, "ada")
    assert replace(seen, revision=0) != replace(await world.watch(), revision=0)
