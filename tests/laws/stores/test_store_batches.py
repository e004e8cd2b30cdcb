"""Laws of batches in a store."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from penstock.core.ports import Store
from penstock.errors import StateConflict
from penstock.schema.batch import CANCELLING, IN_PROGRESS, Batch
from tests.laws.stores.records import LATER, NOW


def a_batch(id: str = "", **differs: Any) -> Batch:
    """A batch with an id of its own."""
    plain: dict[str, Any] = {"key_id": "key_1", "endpoint": "/v1/embeddings", "input_file_id": "file-1"}
    plain |= {"completion_window": "24h", "created_at": NOW, "expires_at": LATER, "kept_until": LATER + 1}
    return Batch(id or f"batch_{uuid4().hex}", **(plain | differs))


async def test_a_batch_is_found_as_it_was_created_and_by_its_key_alone(store: Store) -> None:
    batch = a_batch(metadata='{"ä": "\\u0000"}', marks="ccf." * 256, offset=2**41, total=50_000, cancelling_at=NOW)
    await store.create_batch(batch)
    assert await store.find_batch("key_1", batch.id) == batch
    assert await store.find_batch("key_2", batch.id) is None
    with pytest.raises(StateConflict, match=batch.id):
        await store.create_batch(batch)


async def test_a_revision_follows_the_one_before_it(store: Store) -> None:
    batch = a_batch()
    await store.create_batch(batch)
    second = replace(batch, status=IN_PROGRESS, in_progress_at=NOW, marks="..", revision=2)
    await store.replace_batch(second)
    for late in (replace(batch, status=CANCELLING, revision=2), replace(batch, revision=4), a_batch(revision=2)):
        with pytest.raises(StateConflict, match="revision"):
            await store.replace_batch(late)
    assert await store.find_batch("key_1", batch.id) == second


async def test_of_rivals_one_writes_the_next_revision(store: Store) -> None:
    batch = a_batch()
    await store.create_batch(batch)

    async def rival(number: int) -> bool:
        try:
            await store.replace_batch(replace(batch, total=number, revision=2))
        except StateConflict:
            return False
        return True

    won = await asyncio.gather(*map(rival, range(1, 9)))
    found = await store.find_batch("key_1", batch.id)
    assert won.count(True) == 1
    assert found is not None
    assert found.total == won.index(True) + 1


async def test_batches_are_listed_in_pages_the_newest_first(store: Store) -> None:
    for number in range(4):
        await store.create_batch(a_batch(f"batch_{number}", key_id="key_1" if number else "key_2"))
    found = await store.list_batches("key_1", now=NOW, limit=2)
    assert [batch.id for batch in found] == ["batch_3", "batch_2"]
    found = await store.list_batches("key_1", now=NOW, limit=9, after="batch_2")
    assert [batch.id for batch in found] == ["batch_1"]
    assert await store.list_batches("key_1", now=LATER + 1, limit=9) == []


async def test_what_is_kept_no_longer_is_forgotten_and_nothing_else(store: Store) -> None:
    gone, kept = a_batch(kept_until=NOW + 60), a_batch(kept_until=NOW + 90)
    for batch in (gone, kept):
        await store.create_batch(batch)
    assert await store.prune_batches(NOW + 60) in (0, 1), "0 where the backend forgets by itself"
    assert await store.find_batch("key_1", kept.id) == kept
