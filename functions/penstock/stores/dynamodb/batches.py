"""Batches in DynamoDB: those of each key beside one another, forgotten when they are kept no longer."""

from __future__ import annotations

from dataclasses import asdict
from math import ceil
from typing import TYPE_CHECKING, Any

from penstock.errors import StateConflict
from penstock.schema.batch import Batch
from penstock.stores._items import Item, dump, load

if TYPE_CHECKING:
    from penstock.stores.dynamodb.connection import Connection

VERSION = 1
TABLE: dict[str, Any] = {
    "AttributeDefinitions": [
        {"AttributeName": "key_id", "AttributeType": "S"},
        {"AttributeName": "id", "AttributeType": "S"},
    ],
    "KeySchema": [{"AttributeName": "key_id", "KeyType": "HASH"}, {"AttributeName": "id", "KeyType": "RANGE"}],
}

BATCH_IS_NEW = "attribute_not_exists(id)"
IS_THE_REVISION_BEFORE = "revision = :before"
OF_THE_KEY = "key_id = :key_id"
BATCH_IS_KEPT = "kept_until > :now"


class Batches:
    """The store's part that keeps batches."""

    _db: Connection

    async def create_batch(self, batch: Batch) -> None:
        """Keep a new batch; ``StateConflict`` if its key has one of this id."""
        try:
            await self._db.put("batches", _item(batch), BATCH_IS_NEW)
        except StateConflict:
            raise StateConflict(f"a batch with the id {batch.id} exists already") from None

    async def find_batch(self, key_id: str, id: str) -> Batch | None:
        """The key's batch, or ``None``."""
        item = await self._db.get("batches", _key(key_id, id))
        return load(Batch, item) if item else None

    async def replace_batch(self, batch: Batch) -> None:
        """Write a batch's next revision; ``StateConflict`` unless the one before it is the present one."""
        before = dump({":before": batch.revision - 1})
        try:
            await self._db.put("batches", _item(batch), IS_THE_REVISION_BEFORE, before)
        except StateConflict:
            raise StateConflict(f"the batch {batch.id} is not at revision {batch.revision - 1} any more") from None

    async def list_batches(self, key_id: str, *, now: float, limit: int, after: str = "") -> list[Batch]:
        """The key's batches, newest first by their ids, beyond the one ``after``."""
        query = {
            "TableName": self._db.table("batches"),
            "KeyConditionExpression": OF_THE_KEY,
            "FilterExpression": BATCH_IS_KEPT,
            "ExpressionAttributeValues": dump({":key_id": key_id, ":now": now}),
            "ScanIndexForward": False,
            "ConsistentRead": True,
        }
        if after:
            query["ExclusiveStartKey"] = _key(key_id, after)
        found: list[Batch] = []
        async for page in self._db.pages("Query", query):
            found += [load(Batch, item) for item in page]
            if len(found) >= limit:
                break
        return found[:limit]

    async def prune_batches(self, now: float) -> int:
        """Nothing: the table's own TTL forgets them."""
        return 0


def _item(batch: Batch) -> Item:
    return dump({**asdict(batch), "expires": ceil(batch.kept_until), "v": VERSION})


def _key(key_id: str, id: str) -> Item:
    return {"key_id": {"S": key_id}, "id": {"S": id}}
