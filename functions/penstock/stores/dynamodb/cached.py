"""What caches keep in DynamoDB, and who is about to fill them: one item for each key, forgotten by the table's TTL."""

from __future__ import annotations

from base64 import b64decode
from math import ceil
from typing import TYPE_CHECKING, Any

from penstock.core.ports.caching import Cached
from penstock.errors import RequestTooLarge, StateConflict
from penstock.stores._items import dump

if TYPE_CHECKING:
    from penstock.stores.dynamodb.connection import Connection

VERSION = 1
LARGEST = 390_000
"""Bytes of a value at most: an item may have 400 KB, and is paid by its size each time it is read."""
LINGER = 60
"""Seconds after a claim's end when an item that never got a value may go."""
TABLE: dict[str, Any] = {
    "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
}

IS_TO_BE_FILLED_BY_ME = (
    "(attribute_not_exists(stored_at) OR stored_at <= :stale OR expires_at <= :now)"
    " AND (attribute_not_exists(filler) OR filler = :filler OR filling_until <= :now)"
)
IS_FILLED_BY_ME = "filler = :filler"


class CachedValues:
    """The store's part that backs caches."""

    _db: Connection

    async def find_cached(self, key: str, *, now: float) -> Cached | None:
        """The value, unless there is none or its time is over."""
        item = await self._db.get("cached", {"id": {"S": key}})
        if item is None or "stored" not in item:
            return None
        found = Cached(b64decode(item["stored"]["B"]), float(item["expires_at"]["N"]))
        return found if found.expires_at > now else None

    async def keep_cached(self, key: str, value: bytes, *, now: float, expires: float) -> None:
        """Keep a value in the place of any other, and nobody is about to bring it any more.

        Raises ``RequestTooLarge`` if no item can hold it.
        """
        if len(value) > LARGEST:
            raise RequestTooLarge(f"A cached value may have {LARGEST} bytes, and this has {len(value)}.")
        item = {"id": key, "stored": value, "stored_at": now, "expires_at": expires}
        item |= {"expires": ceil(expires), "v": VERSION}
        await self._db.call("PutItem", {"TableName": self._db.table("cached"), "Item": dump(item)})

    async def claim_fill(self, key: str, filler: str, *, now: float, until: float, stale: float) -> bool:
        """Be the one who brings the value, or be it longer; ``False`` while another is, or if one is there."""
        values = {":filler": filler, ":now": now, ":until": until, ":stale": stale, ":end": ceil(until) + LINGER}
        change = "SET filler = :filler, filling_until = :until, expires = if_not_exists(expires, :end)"
        try:
            await self._db.update("cached", {"id": {"S": key}}, change, IS_TO_BE_FILLED_BY_ME, values=dump(values))
        except StateConflict:
            return False
        return True

    async def release_fill(self, key: str, filler: str) -> None:
        """Bring nothing after all; nothing changes where another has been at it meanwhile."""
        values, change = dump({":filler": filler, ":never": 0}), "SET filling_until = :never"
        try:
            await self._db.update("cached", {"id": {"S": key}}, change, IS_FILLED_BY_ME, values=values)
        except StateConflict:
            return

    async def prune_cached(self, now: float, *, room: int, limit: int = 500) -> int:
        """Nothing: the table's own TTL forgets, and no size is bounded."""
        return 0
