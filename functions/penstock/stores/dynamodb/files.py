"""Files in DynamoDB: the records of each key beside one another, not their bytes.

The table's own TTL forgets none: the objects go first, so an index tells which have expired.
"""

from __future__ import annotations

import asyncio
import heapq
import zlib
from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING, Any

from penstock.errors import StateConflict
from penstock.schema.file import File
from penstock.stores._items import Item, dump, load

if TYPE_CHECKING:
    from penstock.stores.dynamodb.connection import Connection

VERSION = 1
PARTS = 2
EXPIRY = "by_expiry"
TABLE: dict[str, Any] = {
    "AttributeDefinitions": [
        {"AttributeName": "key_id", "AttributeType": "S"},
        {"AttributeName": "id", "AttributeType": "S"},
        {"AttributeName": "expiry_part", "AttributeType": "S"},
        {"AttributeName": "expires_at", "AttributeType": "N"},
    ],
    "KeySchema": [{"AttributeName": "key_id", "KeyType": "HASH"}, {"AttributeName": "id", "KeyType": "RANGE"}],
    "GlobalSecondaryIndexes": [
        {
            "IndexName": EXPIRY,
            "KeySchema": [
                {"AttributeName": "expiry_part", "KeyType": "HASH"},
                {"AttributeName": "expires_at", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "ALL"},
        }
    ],
}

FILE_IS_NEW = "attribute_not_exists(id)"
FILE_IS_KEPT = "expires_at > :now"
FILE_IS_SEEN = "parts > :none AND expires_at > :now"
FILE_IS_FOR = "purpose = :purpose"
OF_THE_KEY = "key_id = :key_id"
HAS_EXPIRED = "expiry_part = :part AND expires_at <= :now"


class Files:
    """The store's part that keeps records of files."""

    _db: Connection

    async def create_file(self, file: File) -> None:
        """Keep a new file's record; ``StateConflict`` if its key has one of this id."""
        try:
            await self._db.put("files", _item(file), FILE_IS_NEW)
        except StateConflict:
            raise StateConflict(f"a file with the id {file.id} exists already") from None

    async def replace_file(self, file: File, *, now: float) -> bool:
        """Write what is known of a file by now; ``False`` if there is none, or it has expired."""
        try:
            await self._db.put("files", _item(file), FILE_IS_KEPT, dump({":now": now}))
        except StateConflict:
            return False
        return True

    async def find_file(self, key_id: str, id: str) -> File | None:
        """The key's file, seen or not, or ``None``."""
        item = await self._db.get("files", _key(key_id, id))
        return load(File, item) if item else None

    async def list_files(
        self, key_id: str, *, now: float, limit: int, after: str = "", oldest_first: bool = False, purpose: str = ""
    ) -> list[File]:
        """The key's files that are seen, newest first by their ids, beyond the one ``after``."""
        values = {":key_id": key_id, ":now": now, ":none": 0} | ({":purpose": purpose} if purpose else {})
        query = {
            "TableName": self._db.table("files"),
            "KeyConditionExpression": OF_THE_KEY,
            "FilterExpression": f"{FILE_IS_SEEN} AND {FILE_IS_FOR}" if purpose else FILE_IS_SEEN,
            "ExpressionAttributeValues": dump(values),
            "ScanIndexForward": oldest_first,
            "ConsistentRead": True,
        }
        if after:
            query["ExclusiveStartKey"] = _key(key_id, after)
        found: list[File] = []
        async for page in self._db.pages("Query", query):
            found += [load(File, item) for item in page]
            if len(found) >= limit:
                break
        return found[:limit]

    async def expired_files(self, now: float, *, limit: int) -> list[File]:
        """Files of any key that have expired and are not removed yet."""
        found = await asyncio.gather(*(self._expired(str(part), now, limit) for part in range(PARTS)))
        return heapq.nsmallest(limit, chain(*found), key=lambda file: file.expires_at)

    async def remove_file(self, file: File) -> None:
        """Forget a file's record; one that is not there is no error."""
        await self._db.call("DeleteItem", {"TableName": self._db.table("files"), "Key": _key(file.key_id, file.id)})

    async def _expired(self, part: str, now: float, limit: int) -> list[File]:
        query = {
            "TableName": self._db.table("files"),
            "IndexName": EXPIRY,
            "KeyConditionExpression": HAS_EXPIRED,
            "ExpressionAttributeValues": dump({":part": part, ":now": now}),
            "Limit": limit,
        }
        return [load(File, item) for item in (await self._db.call("Query", query))["Items"]]


def _item(file: File) -> Item:
    part = str(zlib.crc32(file.id.encode()) % PARTS)
    return dump({**asdict(file), "expiry_part": part, "v": VERSION})


def _key(key_id: str, id: str) -> Item:
    return {"key_id": {"S": key_id}, "id": {"S": id}}
