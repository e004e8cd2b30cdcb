"""Laws of virtual keys in a store."""

from __future__ import annotations

from dataclasses import replace

import pytest

from penstock.core.ports import Store
from penstock.errors import StateConflict
from tests.laws.stores.records import NOW, a_key


async def test_a_key_is_found_by_its_hash_as_it_was_created(store: Store) -> None:
    key = a_key(description="CI", owner="ada", priority=7, scopes=("inference", "admin"), models=("tiny", "llama*"))
    key = replace(key, providers=("engine", "workers"))
    await store.create_key(key)
    assert await store.find_key(key.sha256) == key


async def test_an_unknown_hash_finds_nothing(store: Store) -> None:
    key = a_key()
    await store.create_key(key)
    for wrong in ("", "0" * 64, key.id, key.sha256.upper(), key.sha256[:-1]):
        assert await store.find_key(wrong) is None


async def test_an_id_cannot_be_taken_twice(store: Store) -> None:
    first = a_key()
    await store.create_key(first)
    second = a_key(id=first.id)
    with pytest.raises(StateConflict, match=first.id):
        await store.create_key(second)
    assert await store.find_key(second.sha256) is None
    assert await store.find_key(first.sha256) == first


async def test_a_hash_cannot_be_taken_twice(store: Store) -> None:
    first = a_key()
    await store.create_key(first)
    second = a_key(sha256=first.sha256)
    with pytest.raises(StateConflict):
        await store.create_key(second)
    assert await store.find_key(first.sha256) == first
    assert await store.revoke_key(second.id, NOW) is None


async def test_the_id_of_a_refused_key_is_still_free(store: Store) -> None:
    taken, refused = a_key(), a_key()
    await store.create_key(taken)
    with pytest.raises(StateConflict):
        await store.create_key(a_key(id=refused.id, sha256=taken.sha256))
    await store.create_key(refused)
    assert await store.find_key(refused.sha256) == refused


async def test_an_expired_key_is_found_too_so_that_its_holder_can_be_told(store: Store) -> None:
    key = a_key(expires_at=NOW - 1)
    await store.create_key(key)
    found = await store.find_key(key.sha256)
    assert found == key
    assert not found.active(NOW)


async def test_keys_are_listed_oldest_first(store: Store) -> None:
    keys = [a_key(created_at=NOW + age) for age in (3, 1, 2)]
    assert await store.list_keys() == []
    for key in keys:
        await store.create_key(key)
    assert await store.list_keys() == [keys[1], keys[2], keys[0]]


async def test_every_key_is_listed_however_much_they_hold(store: Store) -> None:
    keys = [a_key(created_at=NOW + number, description="x" * 200_000) for number in range(12)]
    for key in keys:
        await store.create_key(key)
    assert await store.list_keys() == keys


async def test_a_revoked_key_is_found_with_the_time_of_its_revocation(store: Store) -> None:
    key = a_key(expires_at=NOW + 60)
    await store.create_key(key)
    revoked = await store.revoke_key(key.id, NOW)
    assert revoked is not None
    assert revoked.revoked_at == NOW
    assert await store.find_key(key.sha256) == revoked
    assert await store.list_keys() == [revoked]
    assert not revoked.active(NOW)


async def test_the_first_revocation_stays(store: Store) -> None:
    key = a_key()
    await store.create_key(key)
    first = await store.revoke_key(key.id, NOW)
    assert await store.revoke_key(key.id, NOW + 100) == first


async def test_a_key_that_does_not_exist_cannot_be_revoked(store: Store) -> None:
    assert await store.revoke_key("key_nobody", NOW) is None
    assert await store.list_keys() == []


async def test_no_two_keys_are_mixed_up(store: Store) -> None:
    keys = [a_key(owner=f"owner {number}") for number in range(5)]
    for key in keys:
        await store.create_key(key)
    await store.revoke_key(keys[2].id, NOW)
    for number, key in enumerate(keys):
        found = await store.find_key(key.sha256)
        assert found is not None
        assert (found.id, found.owner) == (key.id, f"owner {number}")
        assert (found.revoked_at is not None) is (number == 2)
