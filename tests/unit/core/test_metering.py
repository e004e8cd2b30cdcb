"""The ledger: every outcome is written once, whatever the store does meanwhile."""

from __future__ import annotations

import asyncio
import logging

import pytest

from penstock.core import metering
from penstock.core.metering import BATCH, Ledger
from penstock.errors import StateError
from penstock.schema.outcome import OK, Outcome
from tests.unit.memory import DOWN, MemoryStore


def outcome(number: int) -> Outcome:
    return Outcome(
        request_id=f"req_{number}",
        started_at=1_700_000_000.0 + number,
        duration=0.1,
        key_id="key_1",
        owner="",
        endpoint="chat/completions",
        model="m",
        deployment="p/m",
        ended=OK,
        status=200,
    )


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger of the tests is in a hurry."""
    monkeypatch.setattr(metering, "LINGER", 0.005)
    monkeypatch.setattr(metering, "RETRY", 0.005)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


async def written(store: MemoryStore, count: int) -> None:
    """Wait until the store holds so many outcomes."""
    await store.until(lambda: len(store.outcomes) >= count)


async def test_outcomes_of_a_moment_are_written_together(store: MemoryStore) -> None:
    ledger = Ledger(store)
    for number in range(20):
        ledger.record(outcome(number))
    await written(store, 20)
    assert store.batches == [20]
    assert list(store.outcomes) == [f"req_{number}" for number in range(20)]
    await ledger.close()


async def test_what_comes_later_is_written_too(store: MemoryStore) -> None:
    ledger = Ledger(store)
    for number in range(5):
        ledger.record(outcome(number))
        await written(store, number + 1)
    await ledger.close()


async def test_a_batch_has_an_end(store: MemoryStore) -> None:
    ledger = Ledger(store)
    for number in range(BATCH * 2 + 1):
        ledger.record(outcome(number))
    assert await ledger.flush()
    assert store.batches == [BATCH, BATCH, 1]
    await ledger.close()


async def test_while_the_store_is_down_nothing_is_lost(store: MemoryStore, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger(store)
    store.failure = DOWN
    with caplog.at_level(logging.ERROR):
        for number in range(10):
            ledger.record(outcome(number))
            await asyncio.sleep(0)
        assert not await ledger.flush()
    assert "outcomes wait for the store" in caplog.text
    store.failure = None
    await written(store, 10)
    assert sum(store.batches) == 10
    await ledger.close()


async def test_what_was_written_although_the_store_said_no_is_not_written_twice(store: MemoryStore) -> None:
    class Doubtful(MemoryStore):
        """Writes, and then loses its answer."""

        async def record_outcomes(self, outcomes: list[Outcome]) -> int:  # type: ignore[override]
            new = await super().record_outcomes(outcomes)
            if len(self.batches) == 1:
                raise StateError("the answer was lost")
            return new

    doubtful = Doubtful()
    ledger = Ledger(doubtful)
    ledger.record(outcome(1))
    assert not await ledger.flush()
    ledger.record(outcome(2))
    assert await ledger.flush()
    assert doubtful.batches == [1, 2]
    assert list(doubtful.outcomes) == ["req_1", "req_2"]
    await ledger.close()


async def test_a_full_buffer_takes_no_new_work(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metering, "CAPACITY", 3)
    store.failure = DOWN
    ledger = Ledger(store)
    for number in range(3):
        ledger.check()
        ledger.record(outcome(number))
    with pytest.raises(StateError, match="buffer is full"):
        ledger.check()
    ledger.record(outcome(3))  # what was admitted before is still taken
    store.failure = None
    await written(store, 4)
    ledger.check()
    await ledger.close()


async def test_closing_writes_what_waits(store: MemoryStore) -> None:
    ledger = Ledger(store)
    ledger.record(outcome(1))
    await ledger.close()
    assert list(store.outcomes) == ["req_1"]


async def test_closing_while_a_write_is_under_way_waits_for_it(store: MemoryStore) -> None:
    ledger = Ledger(store)
    store.gate = asyncio.Event()
    ledger.record(outcome(1))
    await store.until(lambda: store.asked["record_outcomes"] > 0)
    ledger.record(outcome(2))
    closing = asyncio.ensure_future(ledger.close())
    await asyncio.sleep(0)
    assert not closing.done()
    store.gate.set()
    await closing
    assert list(store.outcomes) == ["req_1", "req_2"]
    assert sum(store.batches) == 2


async def test_closing_while_the_store_is_down_tells_what_is_lost(store: MemoryStore) -> None:
    told: list[Outcome] = []
    ledger = Ledger(store, tell=told.extend)
    store.failure = DOWN
    ledger.record(outcome(1))
    await ledger.close()
    assert told == [outcome(1)]


async def test_each_outcome_is_told_once_and_when_it_is_written(store: MemoryStore) -> None:
    told: list[Outcome] = []
    ledger = Ledger(store, tell=told.extend)
    store.failure = DOWN
    ledger.record(outcome(1))
    await ledger.flush()
    assert told == []
    store.failure = None
    await ledger.flush()
    assert told == [outcome(1)]
    await ledger.close()


async def test_on_a_door_an_outcome_is_written_before_the_answer_goes_out(store: MemoryStore) -> None:
    ledger = Ledger(store, immediate=True)
    ledger.record(outcome(1))
    await asyncio.sleep(metering.LINGER * 4)
    assert not store.outcomes, "it was written behind the request's back, where the process may be frozen"
    await ledger.settled()
    assert list(store.outcomes) == ["req_1"]


async def test_on_a_server_nobody_waits_for_the_ledger(store: MemoryStore) -> None:
    ledger = Ledger(store)
    store.gate = asyncio.Event()
    ledger.record(outcome(1))
    async with asyncio.timeout(1):
        await ledger.settled()
    store.gate.set()
    await ledger.close()


@pytest.mark.parametrize("where", ["store", "log"])
async def test_an_unforeseen_error_does_not_end_the_writing(store: MemoryStore, where: str) -> None:
    def tell(batch: list[Outcome]) -> None:
        if where == "log" and len(store.outcomes) == 1:
            raise BrokenPipeError("nobody reads the log any more")

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)
    ledger = Ledger(store, tell=tell)
    store.failure = RuntimeError("a defect") if where == "store" else None
    ledger.record(outcome(1))
    await store.until(lambda: store.asked["record_outcomes"] > 0)
    store.failure = None
    ledger.record(outcome(2))
    async with asyncio.timeout(5):
        await written(store, 2)
