"""Laws of keys that change: each revision follows the one before it, and a rotated key opens by both for a while."""

from __future__ import annotations

from dataclasses import replace

import pytest

from penstock.core.keys import rotated
from penstock.core.ports import Store
from penstock.errors import StateConflict
from penstock.schema.key import VirtualKey
from penstock.schema.secret import Secret
from tests.laws.stores.records import NOW, a_key


def changed(key: VirtualKey, **fields: object) -> VirtualKey:
    return replace(key, revision=key.revision + 1, **fields)  # type: ignore[arg-type]


async def test_a_key_is_read_by_its_id(store: Store) -> None:
    key = a_key(tags=("ci", "batch"))
    await store.create_key(key)
    assert await store.read_key(key.id) == key
    assert await store.read_key("key_of_nobody") is None


async def test_a_change_is_what_is_found_from_then_on(store: Store) -> None:
    key = a_key(owner="ada", expires_at=NOW + 60)
    await store.create_key(key)
    new = changed(key, owner="grace", models=("tiny",), scopes=("admin",), priority=-3, expires_at=None, tags=("x",))
    await store.replace_key(new)
    assert await store.find_key(key.sha256) == new
    assert await store.read_key(key.id) == new
    assert await store.list_keys() == [new]


async def test_a_change_of_an_old_revision_is_refused(store: Store) -> None:
    key = a_key()
    await store.create_key(key)
    await store.replace_key(changed(key, owner="first"))
    with pytest.raises(StateConflict):
        await store.replace_key(changed(key, owner="second"))
    found = await store.read_key(key.id)
    assert found is not None
    assert found.owner == "first"


async def test_a_key_that_is_not_there_cannot_be_changed(store: Store) -> None:
    with pytest.raises(StateConflict):
        await store.replace_key(changed(a_key()))
    assert await store.list_keys() == []


async def test_a_change_that_began_before_a_revocation_does_not_undo_it(store: Store) -> None:
    key = a_key()
    await store.create_key(key)
    await store.revoke_key(key.id, NOW)
    with pytest.raises(StateConflict):
        await store.replace_key(changed(key, owner="late"))
    found = await store.find_key(key.sha256)
    assert found is not None
    assert found.revoked_at == NOW


async def test_a_rotated_key_is_found_by_both_hashes_and_is_one_key(store: Store) -> None:
    key = a_key()
    await store.create_key(key)
    new = rotated(key, Secret("psk-new"), until=NOW + 60)
    await store.replace_key(new)
    assert await store.find_key(new.sha256) == new
    assert await store.find_key(key.sha256) == new
    assert await store.list_keys() == [new]
    assert new.opened_by(key.sha256, NOW + 59)
    assert not new.opened_by(key.sha256, NOW + 60)
    assert new.opened_by(new.sha256, NOW + 60)


async def test_only_the_last_key_before_a_rotation_has_a_grace(store: Store) -> None:
    first = a_key()
    await store.create_key(first)
    second = rotated(first, Secret("psk-second"), until=NOW + 60)
    await store.replace_key(second)
    third = rotated(second, Secret("psk-third"), until=NOW + 60)
    await store.replace_key(third)
    assert await store.find_key(first.sha256) is None
    assert await store.find_key(second.sha256) == third
    assert await store.list_keys() == [third]


async def test_a_rotation_to_a_hash_that_exists_is_refused(store: Store) -> None:
    key, other = a_key(), a_key(sha256=Secret("psk-taken").sha256())
    await store.create_key(key)
    await store.create_key(other)
    with pytest.raises(StateConflict):
        await store.replace_key(rotated(key, Secret("psk-taken"), until=NOW + 60))
    assert await store.find_key(key.sha256) == key
    assert await store.find_key(other.sha256) == other


async def test_revoking_a_rotated_key_closes_it_for_both(store: Store) -> None:
    key = a_key()
    await store.create_key(key)
    new = rotated(key, Secret("psk-new"), until=NOW + 60)
    await store.replace_key(new)
    await store.revoke_key(key.id, NOW)
    for sha256 in (key.sha256, new.sha256):
        found = await store.find_key(sha256)
        assert found is not None
        assert not found.opened_by(sha256, NOW)


async def test_a_rotated_key_can_be_changed_and_rotated_again(store: Store) -> None:
    key = a_key()
    await store.create_key(key)
    second = rotated(key, Secret("psk-second"), until=NOW + 60)
    await store.replace_key(second)
    third = changed(second, owner="grace")
    await store.replace_key(third)
    assert await store.find_key(key.sha256) == third
    fourth = rotated(third, Secret("psk-fourth"), until=NOW + 60)
    await store.replace_key(fourth)
    assert await store.find_key(fourth.sha256) == fourth
