"""Settlements on their way: each arrives once, however often the store is away."""

from __future__ import annotations

import asyncio

import pytest

from penstock.core.limits import settler
from penstock.core.limits.settler import BATCH, Settler
from penstock.errors import StateError
from penstock.schema.meter import Claim, Settlement
from tests.unit.core.limits.meters import AWAY, MeterStore, until


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settler, "RETRY", 0.0)


def held(store: MeterStore, count: int) -> list[Settlement]:
    """Settlements of holds that the store has."""
    claim = Claim("m", slots=1, max_slots=10**6, held=True)
    for number in range(count):
        store.kept.reserve(f"{number}", [claim], 0, 100)
    return [Settlement(hold) for hold in store.kept.meter("m").holds.values()]


async def test_a_settlement_is_written_at_once_and_those_that_wait_together_in_one_go() -> None:
    store = MeterStore()
    those, to_settle = Settler(store), held(store, 30)  # type: ignore[arg-type]
    for each in to_settle:
        those.add(each)
    await until(lambda: not those.waits)
    assert (store.asked["settle"], store.kept.meter("m").holds) == (1, {})


async def test_no_batch_is_larger_than_a_store_takes() -> None:
    store = MeterStore()
    those = Settler(store)  # type: ignore[arg-type]
    for each in held(store, 2 * BATCH + 1):
        those.add(each)
    assert await those.flush()
    assert store.asked["settle"] == 3


@pytest.mark.parametrize("too_late", [False, True])
async def test_each_arrives_once_however_often_the_store_fails(too_late: bool) -> None:
    store = MeterStore()
    those, to_settle = Settler(store), held(store, 5)  # type: ignore[arg-type]
    store.failure, store.too_late = AWAY, too_late
    for each in to_settle:
        those.add(each)
    await until(lambda: store.asked["settle"] >= 4)
    store.failure = None
    await until(lambda: store.asked["settle"] >= 5 and not those.waits)
    assert (store.kept.meter("m").slots, store.kept.meter("m").holds) == (0, {})


async def test_while_too_many_wait_no_new_ones_are_caused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settler, "CAPACITY", 3)
    store = MeterStore()
    those, to_settle = Settler(store), held(store, 3)  # type: ignore[arg-type]
    store.failure = AWAY
    for each in to_settle:
        those.check()
        those.add(each)
    with pytest.raises(StateError, match="buffer is full"):
        those.check()
    store.failure = None
    assert await those.flush()
    those.check()
    await those.close()


async def test_one_that_waits_and_is_cancelled_takes_no_settlement_with_it() -> None:
    store = MeterStore()
    those, to_settle = Settler(store), held(store, 2)  # type: ignore[arg-type]
    store.gate = asyncio.Event()
    those.add(to_settle[0])
    waiting = asyncio.ensure_future(those.flush())
    await until(lambda: store.asked["settle"] == 1)
    those.add(to_settle[1])
    waiting.cancel()
    store.gate.set()
    await until(lambda: not store.kept.meter("m").holds)
    await those.close()


async def test_closing_writes_what_waits_or_says_that_it_could_not(caplog: pytest.LogCaptureFixture) -> None:
    store = MeterStore()
    those, (one, two) = Settler(store), held(store, 2)  # type: ignore[arg-type]
    those.add(one)
    await those.close()
    assert list(store.kept.meter("m").holds) == ["1"]
    store.failure = AWAY
    those.add(two)
    await those.close()
    assert "left to expire" in caplog.text
