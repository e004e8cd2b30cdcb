"""Laws of configurations: a document has one number for good; what all are told is replaced revision by revision."""

from __future__ import annotations

import asyncio

import pytest

from penstock.core.ports import Store
from penstock.errors import StateConflict
from penstock.schema.config_version import ConfigVersion, Steering


async def numbered(store: Store, sha256: str, at: float = 100.0) -> int:
    return await store.number_config(sha256, f"text of {sha256}", origin="config.yaml", actor="process", at=at)


async def test_documents_are_numbered_as_they_come(store: Store) -> None:
    assert [await numbered(store, name) for name in ("a", "b", "c")] == [1, 2, 3]


async def test_a_document_that_comes_again_has_the_number_that_it_had(store: Store) -> None:
    assert [await numbered(store, name) for name in ("a", "b", "a", "b")] == [1, 2, 1, 2]
    assert await store.find_config("b") == 2
    assert await store.find_config("z") == 0


async def test_of_many_who_bring_the_same_document_at_once_all_learn_one_number(store: Store) -> None:
    numbers = await asyncio.gather(*(numbered(store, f"hash {number % 3}") for number in range(12)))
    assert sorted(set(numbers)) == [1, 2, 3]
    assert len({(number % 3, found) for number, found in enumerate(numbers)}) == 3


async def test_a_document_comes_back_as_it_was_kept(store: Store) -> None:
    await numbered(store, "a")
    kept = ConfigVersion(1, "a", "text of a", "config.yaml", "process", 100.0, 100.0)
    assert await store.read_config(1) == kept
    assert await store.read_config(2) is None


async def test_the_newest_are_listed_first(store: Store) -> None:
    for name in ("a", "b", "c"):
        await numbered(store, name)
    assert [version.number for version in await store.list_configs(limit=2)] == [3, 2]
    assert [version.number for version in await store.list_configs(limit=100)] == [3, 2, 1]


async def test_a_version_that_is_put_in_force_anew_says_so(store: Store) -> None:
    await numbered(store, "a")
    await store.touch_config(1, 200.5)
    await store.touch_config(7, 200.5)
    found = await store.read_config(1)
    assert found is not None
    assert (found.created_at, found.loaded_at) == (100.0, 200.5)
    assert await store.read_config(7) is None


async def test_nobody_was_told_anything_at_first(store: Store) -> None:
    assert await store.load_steering() == Steering()
    assert await store.list_configs(limit=10) == []


@pytest.mark.parametrize("revision", [1, 3])
async def test_what_all_are_told_is_replaced_revision_by_revision(store: Store, revision: int) -> None:
    first = Steering(1, pushed=4, instead={3: 2, 7: 1}, reloads=5)
    await store.replace_steering(first)
    assert await store.load_steering() == first
    with pytest.raises(StateConflict):
        await store.replace_steering(Steering(revision, pushed=9))
    await store.replace_steering(Steering(2))
    assert await store.load_steering() == Steering(2)
