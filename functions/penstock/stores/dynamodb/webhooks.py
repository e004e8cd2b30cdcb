"""Webhooks in DynamoDB: one item for all of a key's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.errors import StateConflict
from penstock.schema.webhook import Webhooks
from penstock.stores._items import dump
from penstock.stores._webhooks import dump as in_words
from penstock.stores._webhooks import load

if TYPE_CHECKING:
    from penstock.stores.dynamodb.connection import Connection

VERSION = 1
TABLE: dict[str, Any] = {
    "AttributeDefinitions": [{"AttributeName": "key_id", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "key_id", "KeyType": "HASH"}],
}

WEBHOOKS_ARE_THE_FIRST = "attribute_not_exists(key_id)"
WEBHOOKS_ARE_AS_EXPECTED = "revision = :expected"


class KeptWebhooks:
    """The store's part that keeps webhooks."""

    _db: Connection

    async def load_webhooks(self, key_id: str) -> Webhooks:
        """The webhooks of a key; none, of revision 0, if it never had any."""
        item = await self._db.get("webhooks", dump({"key_id": key_id}))
        return Webhooks(key_id, int(item["revision"]["N"]), load(item["webhooks"]["S"])) if item else Webhooks(key_id)

    async def replace_webhooks(self, webhooks: Webhooks) -> None:
        """Write a key's next revision; ``StateConflict`` unless the one before it is the present one."""
        kept = {"key_id": webhooks.key_id, "revision": webhooks.revision, "webhooks": in_words(webhooks.each)}
        item = dump({**kept, "v": VERSION})
        try:
            if expected := webhooks.revision - 1:
                await self._db.put("webhooks", item, WEBHOOKS_ARE_AS_EXPECTED, dump({":expected": expected}))
            else:
                await self._db.put("webhooks", item, WEBHOOKS_ARE_THE_FIRST)
        except StateConflict:
            raise StateConflict(f"the webhooks of {webhooks.key_id} were changed meanwhile") from None
