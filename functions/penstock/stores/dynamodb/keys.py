"""Virtual keys in DynamoDB: an item for the key, found by its hash, and one for its id.

Both are written in one transaction. An index could find a key by its id, but not make an id unique: it lags behind.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from penstock.errors import StateConflict
from penstock.schema.key import VirtualKey
from penstock.stores._items import Item, dump, load

if TYPE_CHECKING:
    from penstock.stores.dynamodb.connection import Connection

VERSION = 1
TABLE: dict[str, Any] = {
    "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
}

KEY_IS_NEW = "attribute_not_exists(pk)"
KEY_EXISTS = "attribute_exists(pk)"
IS_A_KEY = "begins_with(pk, :hash)"
REVOKED_FOR_GOOD = "SET revoked_at = if_not_exists(revoked_at, :at)"


class Keys:
    """The store's part that keeps virtual keys."""

    _db: Connection

    async def create_key(self, key: VirtualKey) -> None:
        """Keep a new key; ``StateConflict`` if its id or its hash exists already."""
        token = uuid4().hex
        items = (
            {**_by_hash(key.sha256), **dump({**asdict(key), "v": VERSION, "written_by": token})},
            {**_by_id(key.id), **dump({"sha256": key.sha256, "v": VERSION})},
        )
        table = self._db.table("keys")
        puts = [{"Put": {"TableName": table, "Item": item, "ConditionExpression": KEY_IS_NEW}} for item in items]
        try:
            await self._db.call("TransactWriteItems", {"TransactItems": puts})
        except StateConflict:
            if not await self._db.wrote("keys", _by_hash(key.sha256), token):
                raise StateConflict(f"a key with the id {key.id} or the same hash exists already") from None

    async def find_key(self, sha256: str) -> VirtualKey | None:
        """The key with this hash, active or not, or ``None``."""
        item = await self._db.get("keys", _by_hash(sha256))
        return load(VirtualKey, item) if item else None

    async def list_keys(self) -> list[VirtualKey]:
        """Every key, oldest first."""
        scan = {
            "TableName": self._db.table("keys"),
            "ConsistentRead": True,
            "FilterExpression": IS_A_KEY,
            "ExpressionAttributeValues": {":hash": {"S": "hash#"}},
        }
        keys = [load(VirtualKey, item) async for page in self._db.pages("Scan", scan) for item in page]
        return sorted(keys, key=lambda key: (key.created_at, key.id))

    async def revoke_key(self, id: str, at: float) -> VirtualKey | None:
        """Revoke for good; the first revocation's time stays. ``None`` if there is no such key."""
        pointer = await self._db.get("keys", _by_id(id))
        if pointer is None:
            return None
        key, values = _by_hash(pointer["sha256"]["S"]), dump({":at": at})
        return load(VirtualKey, await self._db.update("keys", key, REVOKED_FOR_GOOD, KEY_EXISTS, values=values))


def _by_hash(sha256: str) -> Item:
    return {"pk": {"S": f"hash#{sha256}"}}


def _by_id(id: str) -> Item:
    return {"pk": {"S": f"id#{id}"}}
