"""Laws of rivalry about meters: sixteen processes at once get exactly what there is, and nothing is miscounted."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.core.ports import Store
from penstock.schema.meter import SECOND
from tests.laws.stores.arena import RIVALS
from tests.laws.stores.conftest import Race
from tests.laws.stores.limit_plays import BURST, CENT, DAY, LATER, NANOS, SLOTS, T0, money, slot
from tests.laws.stores.places import Place

GRANTED_MONEY = NANOS // CENT


@pytest.fixture
def place(shared_place: Place) -> Place:
    """Where the rivals are, so that ``store`` sees what they did."""
    return shared_place


def all_of(told: list[list[str]]) -> list[str]:
    """What all processes were granted."""
    return [name for mine in told for name in mine]


async def test_sixteen_processes_are_granted_exactly_one_burst(race: Race, store: Store) -> None:
    assert len(all_of(race("reserve_requests", "5"))) == BURST
    assert (await store.read_meter("key#rate")).tats == {"requests": T0 + BURST * SECOND}


async def test_sixteen_processes_are_granted_exactly_the_slots(race: Race, store: Store) -> None:
    granted = all_of(race("reserve_slots", "3"))
    meter = await store.read_meter("key#slots")
    assert meter.slots == len(granted) == SLOTS
    assert sorted(meter.holds) == sorted(granted)


async def test_sixteen_processes_are_granted_exactly_the_budget(race: Race, store: Store) -> None:
    granted = all_of(race("reserve_money", "4"))
    meter = await store.read_meter("owner#money")
    assert len(granted) == GRANTED_MONEY
    assert meter.spent == {DAY: NANOS, "total": NANOS}
    assert sorted(meter.holds) == sorted(granted)


async def test_several_meters_are_taken_together_without_a_deadlock(race: Race, store: Store) -> None:
    granted = all_of(race("reserve_everything", "3"))
    assert len(granted) == SLOTS, "the scarcest of the three decides"
    assert (await store.read_meter("gateway")).tats == {"requests": T0 + SLOTS * SECOND}
    assert (await store.read_meter("key#slots")).slots == SLOTS
    assert (await store.read_meter("owner#money")).spent == {DAY: SLOTS * CENT, "total": SLOTS * CENT}


async def test_one_reservation_repeated_sixteen_times_is_made_once(race: Race, store: Store) -> None:
    assert race("reserve_one_id") == [True] * RIVALS
    assert (await store.read_meter("key#slots")).slots == 1
    assert (await store.read_meter("owner#money")).spent == {DAY: CENT, "total": CENT}


async def test_what_sixteen_processes_settle_is_what_was_spent(race: Race, store: Store) -> None:
    told = race("spend", "4")
    spent = sum(each["nanos"] for each in told)
    assert sum(each["granted"] for each in told) >= SLOTS
    meter = await store.read_meter("owner#money")
    assert (meter.spent, meter.holds) == ({DAY: spent, "total": spent}, {})
    meter = await store.read_meter("key#slots")
    assert (meter.slots, meter.holds) == (0, {})


async def test_an_expired_hold_ends_once_whoever_ends_it(race: Race, store: Store) -> None:
    for number in range(SLOTS):
        verdict = await store.reserve(f"dead-{number}", [slot(), money()], now=T0, expires=LATER)
        assert not verdict.refusals
    told = race("end")
    granted = sum(each.get("granted", False) for each in told)
    ended = [name for each in told for name in each.get("ended", [])]
    late = sum(each.get("late", 0) for each in told)
    await store.end_expired(LATER)
    assert granted == len([each for each in told if "granted" in each]), "there is room once the dead are buried"
    assert len(set(ended)) == len(ended)
    assert len(ended) + late <= 2 * SLOTS
    await assert_only_the_living(store, granted)


async def assert_only_the_living(store: Store, living: int) -> None:
    """All that the dead held is spent, and all that is held is the living's."""
    spent = (SLOTS + living) * CENT
    seen: list[Any] = [await store.read_meter(name) for name in ("key#slots", "owner#money")]
    assert [len(meter.holds) for meter in seen] == [living, living]
    assert seen[0].slots == living
    assert seen[1].spent == {DAY: spent, "total": spent}
