"""The reaper: what a dead process held is free again, now and then or when somebody asks."""

from __future__ import annotations

import asyncio
import time

import pytest

from penstock.core.limits import reaper
from penstock.core.limits.reaper import LOST, Reaper
from penstock.errors import StateError
from penstock.schema.meter import SECOND, Claim
from tests.unit.core.limits.meters import AWAY, MeterStore, until

SLOT = Claim("m", slots=1, max_slots=9, nanos=5, ceilings=(("total", 100),), held=True)


def lost(store: MeterStore, id: str, seconds: float) -> None:
    """Hold something that expires in so many seconds."""
    now = time.time_ns()
    store.kept.reserve(id, [SLOT], now - 100 * SECOND, now + round(seconds * SECOND))


async def test_one_round_ends_what_has_expired_and_nothing_else() -> None:
    store = MeterStore()
    lost(store, "dead", -1)
    lost(store, "alive", 60)
    counted = LOST.values.get((), 0)
    assert await Reaper(store).turn() == 1  # type: ignore[arg-type]
    meter = store.kept.meter("m")
    assert (list(meter.holds), meter.slots, meter.spent) == (["alive"], 1, {"total": 10})
    assert LOST.values[()] == counted + 1


async def test_a_store_that_is_away_is_for_whoever_asked_to_know() -> None:
    store = MeterStore()
    store.failure = AWAY
    with pytest.raises(StateError):
        await Reaper(store).turn()  # type: ignore[arg-type]


async def test_it_looks_again_and_again_also_after_the_store_was_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaper, "EVERY", 0.0)
    store = MeterStore()
    lost(store, "dead", -1)
    store.failure = AWAY
    those = Reaper(store)  # type: ignore[arg-type]
    those.start()
    await until(lambda: store.asked["end_expired"] >= 2)
    store.failure = None
    await until(lambda: not store.kept.meter("m").holds)
    await those.close()
    await those.close()
    asked = store.asked["end_expired"]
    for _ in range(10):
        await asyncio.sleep(0)
    assert store.asked["end_expired"] == asked


async def test_closing_one_that_never_started_is_nothing() -> None:
    await Reaper(MeterStore()).close()  # type: ignore[arg-type]
