"""Laws of files' records in a store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from penstock.core.ports import Store
from penstock.errors import StateConflict
from penstock.schema.file import File
from tests.laws.stores.records import LATER, NOW


def a_file(id: str = "", **differs: Any) -> File:
    """A file that is seen."""
    plain: dict[str, Any] = {"key_id": "key_1", "purpose": "batch", "filename": "in ä.jsonl", "created_at": NOW}
    return File(id or f"file-{uuid4().hex}", **(plain | {"expires_at": LATER, "size": 2**40, "parts": 1} | differs))


async def listed(store: Store, **asked: Any) -> list[str]:
    wanted: dict[str, Any] = {"now": NOW, "limit": 10}
    return [file.id for file in await store.list_files("key_1", **(wanted | asked))]


async def test_a_file_is_found_by_its_key_alone(store: Store) -> None:
    file = a_file()
    await store.create_file(file)
    assert await store.find_file("key_1", file.id) == file
    assert await store.find_file("key_2", file.id) is None
    assert await store.list_files("key_2", now=NOW, limit=10) == []


async def test_an_id_is_taken_once_a_key(store: Store) -> None:
    file = a_file()
    await store.create_file(file)
    with pytest.raises(StateConflict, match=file.id):
        await store.create_file(replace(file, size=5))
    assert await store.find_file("key_1", file.id) == file


async def test_a_file_is_seen_once_it_is_written(store: Store) -> None:
    file = a_file("file-1", parts=0, size=0, purpose="", filename="")
    await store.create_file(file)
    assert await listed(store) == []
    whole = replace(
        file, purpose="batch", filename="in.jsonl", parts=3, size=77, expires_at=LATER + 5, created_at=NOW + 1
    )
    assert await store.replace_file(whole, now=NOW)
    assert await store.list_files("key_1", now=NOW, limit=10) == [whole]


async def test_what_has_expired_is_not_written_again(store: Store) -> None:
    file = a_file(expires_at=NOW + 60)
    await store.create_file(file)
    assert not await store.replace_file(replace(file, expires_at=LATER), now=NOW + 60)
    assert not await store.replace_file(a_file(), now=NOW)
    assert await store.find_file("key_1", file.id) == file


async def test_files_are_listed_in_pages_by_their_ids(store: Store) -> None:
    for number in range(5):
        await store.create_file(a_file(f"file-{number}", purpose="vision" if number == 2 else "batch"))
    assert await listed(store) == ["file-4", "file-3", "file-2", "file-1", "file-0"]
    assert await listed(store, limit=2, after="file-3") == ["file-2", "file-1"]
    assert await listed(store, limit=2, oldest_first=True) == ["file-0", "file-1"]
    assert await listed(store, after="file-1", oldest_first=True) == ["file-2", "file-3", "file-4"]
    assert await listed(store, purpose="vision") == ["file-2"]
    assert await listed(store, purpose="batch", limit=2) == ["file-4", "file-3"]


async def test_what_has_expired_is_listed_for_those_who_sweep_alone(store: Store) -> None:
    files = [a_file(expires_at=NOW + number, key_id=f"key_{number % 2}", parts=number % 3) for number in range(6)]
    for file in reversed(files):
        await store.create_file(file)
    assert await store.expired_files(NOW + 3, limit=10) == files[:4]
    assert await store.expired_files(NOW + 3, limit=2) == files[:2]
    assert await store.list_files("key_0", now=NOW + 5, limit=10) == []
    await store.remove_file(files[0])
    await store.remove_file(files[0])
    assert await store.expired_files(NOW + 3, limit=10) == files[1:4]
    assert await store.find_file("key_0", files[0].id) is None
