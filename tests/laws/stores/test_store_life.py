"""Laws of a store's life: opening, closing, finding everything again."""

from __future__ import annotations

import pytest

from penstock.core.ports import Store
from penstock.errors import StateError
from tests.laws.stores.places import Place
from tests.laws.stores.records import NOW, a_card, a_job, a_key, an_outcome


async def test_an_open_store_answers_a_ping(store: Store) -> None:
    await store.ping()
    await store.ping()


async def test_everything_is_there_after_closing_and_opening_again(place: Place) -> None:
    key, outcome, job = a_key(), an_outcome(), a_job()
    store = place.connect()
    await store.open()
    await store.create_key(key)
    await store.record_outcomes([outcome])
    await store.create_job(job)
    registry = await store.publish_registry([a_card()], expected=0, at=NOW)
    await store.close()
    store = place.connect()
    await store.open()
    assert await store.find_key(key.sha256) == key
    assert await store.list_outcomes() == [outcome]
    assert await store.find_job(job.id) == job
    assert await store.load_registry() == registry
    await store.close()


async def test_two_stores_at_one_place_see_the_same(place: Place) -> None:
    one, other = place.connect(), place.connect()
    await one.open()
    await other.open()
    key = a_key()
    await one.create_key(key)
    assert await other.find_key(key.sha256) == key
    await other.revoke_key(key.id, NOW)
    found = await one.find_key(key.sha256)
    assert found is not None
    assert found.revoked_at == NOW
    await one.close()
    await other.close()


async def test_opening_and_closing_twice_is_harmless(place: Place) -> None:
    store = place.connect()
    await store.open()
    await store.open()
    await store.ping()
    await store.close()
    await store.close()


async def test_a_closed_store_opens_again(place: Place) -> None:
    store = place.connect()
    await store.open()
    await store.close()
    await store.open()
    await store.ping()
    await store.close()


async def test_a_store_that_is_not_open_says_so(place: Place) -> None:
    store = place.connect()
    with pytest.raises(StateError, match="not open"):
        await store.find_key("0" * 64)
    await store.open()
    await store.close()
    with pytest.raises(StateError, match="not open"):
        await store.ping()
