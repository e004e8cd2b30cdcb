"""Laws of the breaker: a store that goes away is waited for a few times, then not at all, and found when it is back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from penstock.core.ports import Store
from penstock.errors import StateError
from penstock.stores import _breaker
from penstock.stores._breaker import CALLS, IS_OPEN, OPENED, THRESHOLD
from penstock.stores.dynamodb import connection as dynamodb
from penstock.stores.sqlite import connection as sqlite
from tests.laws.stores.outage import Cut, Locked, Outage
from tests.laws.stores.places import make
from tests.laws.stores.records import a_key

BUDGET = 2.0
SLACK = 2.0  # seconds that a busy machine may need on top
PATIENCE = 20.0


@pytest.fixture(autouse=True)
def hurried(unhurried: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamodb, "BUDGET", BUDGET)
    monkeypatch.setattr(dynamodb, "ATTEMPT", 0.9)
    monkeypatch.setattr(sqlite, "PATIENCE", 0.2)


@pytest.fixture(params=["sqlite-locked", "dynamodb-silent", "dynamodb-gone"])
async def outage(request: pytest.FixtureRequest, tmp_path: Path, moto: Callable[[], str]) -> AsyncIterator[Outage]:
    outage: Outage
    if request.param == "sqlite-locked":
        outage = Locked(make("sqlite", tmp_path, moto))
    else:
        outage = Cut(make("dynamodb-over-http", tmp_path, moto), gone=request.param.endswith("gone"))
        await outage.begin()
    yield outage
    await outage.end()


@pytest.fixture
async def store(outage: Outage) -> AsyncIterator[Store]:
    store = outage.place.connect()
    await store.open()
    yield store
    await store.close()


async def fail(store: Store) -> str:
    """What a call to a store that is away says, within its budget."""
    began = time.monotonic()
    with pytest.raises(StateError) as failed:
        await store.create_key(a_key())
    assert time.monotonic() - began < BUDGET + SLACK
    return str(failed.value)


async def works_again(store: Store) -> None:
    """Call until the store is found to be back."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await store.create_key(a_key())
            except StateError:
                await asyncio.sleep(0.05)


async def test_it_is_waited_for_a_few_times_then_not_at_all_and_found_when_it_is_back(
    outage: Outage, store: Store
) -> None:
    name = (outage.place.plug,)
    opened = OPENED.values.get(name, 0)
    await store.create_key(a_key())
    await outage.leave()
    causes = await asyncio.gather(*(fail(store) for _ in range(THRESHOLD)))
    assert IS_OPEN.values[name] == 1

    asked, refused = outage.asked, CALLS.values.get((*name, "refused_by_breaker"), 0)
    began = time.monotonic()
    for _ in range(50):
        assert (await fail(store)).startswith(causes[-1])
        with pytest.raises(StateError, match=r"the store failed 5 times in a row and is tried again in \d\.\d s"):
            await store.ping()
    assert time.monotonic() - began < _breaker.PAUSE, "a hundred calls did not wait for the store"
    assert CALLS.values[(*name, "refused_by_breaker")] == refused + 100
    assert outage.asked == asked, "not one of them reached it"

    await outage.come_back()
    await works_again(store)
    assert IS_OPEN.values[name] == 0
    assert OPENED.values[name] == opened + 1
    await asyncio.gather(*(store.create_key(a_key()) for _ in range(10)))


async def test_a_ping_may_be_the_probe(outage: Outage, store: Store) -> None:
    await outage.leave()
    await asyncio.gather(*(fail(store) for _ in range(THRESHOLD)))
    await outage.come_back()
    async with asyncio.timeout(PATIENCE):
        while IS_OPEN.values[(outage.place.plug,)]:
            try:
                await store.ping()
            except StateError:
                await asyncio.sleep(0.05)
    await store.create_key(a_key())


async def test_a_probe_whose_caller_leaves_does_not_leave_it_half_open(
    outage: Outage, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_breaker, "PAUSE", 0.0)
    await outage.leave()
    await asyncio.gather(*(fail(store) for _ in range(THRESHOLD)))
    probe = asyncio.ensure_future(store.create_key(a_key()))
    await asyncio.sleep(0)
    with pytest.raises(StateError, match="is being tried again now"):
        await store.ping()
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    await outage.come_back()
    await store.create_key(a_key())
    assert IS_OPEN.values[(outage.place.plug,)] == 0


async def test_opening_is_never_refused(outage: Outage, monkeypatch: pytest.MonkeyPatch) -> None:
    first = outage.place.connect()
    await first.open()
    await first.close()
    store = outage.place.connect()
    await outage.leave()
    with monkeypatch.context() as impatient:
        impatient.setattr(dynamodb, "OPENING", 0.3)
        for _ in range(THRESHOLD + 1):
            with pytest.raises(StateError) as refused:
                await store.open()
            assert "in a row" not in str(refused.value)
    await outage.come_back()
    await store.open()
    await store.create_key(a_key())
    await store.close()
