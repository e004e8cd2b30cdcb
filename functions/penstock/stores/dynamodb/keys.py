"""Virtual keys in DynamoDB: an item for the key, found by its hash, and one for its id.

After a rotation the old hash's item points to the new one, until its grace is over and DynamoDB forgets it.
Both are written in one transaction. An index could find a key by its id, but not make an id unique: it lags behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from penstock.errors import StateConflict
from penstock.schema.key import VirtualKey
from penstock.stores._items import Item, dump, load_values
from penstock.stores._keys import flat, whole

if TYPE_CHECKING:
    from penstock.stores.dynamodb.connection import Connection

VERSION = 1
TABLE: dict[str, Any] = {
    "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
}

KEY_IS_NEW = "attribute_not_exists(pk)"
KEY_EXISTS = "attribute_exists(pk)"
IS_A_KEY = "begins_with(pk, :hash) AND attribute_not_exists(moved_to)"
IS_PRESENT = "attribute_exists(pk) AND attribute_not_exists(moved_to) AND attribute_not_exists(revoked_at)"
IS_PRESENT_REVISION = "revision = :expected AND attribute_not_exists(moved_to)"
REVOKED = "SET revoked_at = :at, revision = revision + :one"

ROTATIONS = 5


class Keys:
    """The store's part that keeps virtual keys."""

    _db: Connection

    async def create_key(self, key: VirtualKey) -> None:
        """Keep a new key; ``StateConflict`` if its id or its hash exists already."""
        token = uuid4().hex
        items = (
            {**_by_hash(key.sha256), **dump({**flat(key), "v": VERSION, "written_by": token})},
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
        if item and "moved_to" in item:
            key = await self.find_key(item["moved_to"]["S"])
            return key if key and key.previous_sha256 == sha256 else None
        return _key(item) if item else None

    async def list_keys(self) -> list[VirtualKey]:
        """Every key, oldest first."""
        scan = {
            "TableName": self._db.table("keys"),
            "ConsistentRead": True,
            "FilterExpression": IS_A_KEY,
            "ExpressionAttributeValues": {":hash": {"S": "hash#"}},
        }
        keys = [_key(item) async for page in self._db.pages("Scan", scan) for item in page]
        return sorted(keys, key=lambda key: (key.created_at, key.id))

    async def revoke_key(self, id: str, at: float) -> VirtualKey | None:
        """Revoke for good; the first revocation's time stays. ``None`` if there is no such key."""
        for _ in range(ROTATIONS):
            present = await self.read_key(id)
            if present is None or present.revoked_at is not None:
                return present
            key, values = _by_hash(present.sha256), dump({":at": at, ":one": 1})
            try:
                return _key(await self._db.update("keys", key, REVOKED, IS_PRESENT, values=values))
            except StateConflict:
                continue  # it was rotated in between, or revoked: look again
        raise StateConflict(f"the key {id} is being rotated over and over")

    async def read_key(self, id: str) -> VirtualKey | None:
        """The key with this id, active or not, or ``None``."""
        pointer = await self._db.get("keys", _by_id(id))
        return await self.find_key(pointer["sha256"]["S"]) if pointer else None

    async def replace_key(self, key: VirtualKey) -> None:
        """Write a key's next revision; ``StateConflict`` unless the one before it is the present one."""
        present = await self._db.get("keys", _by_id(key.id))
        if present is None:
            raise StateConflict(f"there is no key {key.id}")
        old = present["sha256"]["S"]
        expected = dump({":expected": key.revision - 1})
        item = {**_by_hash(key.sha256), **dump({**flat(key), "v": VERSION})}
        if old == key.sha256:
            await self._db.put("keys", item, IS_PRESENT_REVISION, expected)
            return
        token = uuid4().hex
        moved = {
            **_by_hash(old),
            **dump({"moved_to": key.sha256, "expires": int(key.previous_until) + 1, "v": VERSION}),
        }
        pointer = {**_by_id(key.id), **dump({"sha256": key.sha256, "v": VERSION})}
        writes = (
            {"Item": item | {"written_by": {"S": token}}, "ConditionExpression": KEY_IS_NEW},
            {"Item": moved, "ConditionExpression": IS_PRESENT_REVISION, "ExpressionAttributeValues": expected},
            {"Item": pointer, "ConditionExpression": KEY_EXISTS},
        )
        table = self._db.table("keys")
        try:
            puts = [{"Put": {"TableName": table, **write}} for write in writes]
            await self._db.call("TransactWriteItems", {"TransactItems": puts})
        except StateConflict:
            if not await self._db.wrote("keys", _by_hash(key.sha256), token):
                raise StateConflict(f"the key {key.id} was changed meanwhile") from None


def _by_hash(sha256: str) -> Item:
    return {"pk": {"S": f"hash#{sha256}"}}


def _by_id(id: str) -> Item:
    return {"pk": {"S": f"id#{id}"}}


def _key(item: Item) -> VirtualKey:
    return whole(load_values(VirtualKey, item))
