"""Rules and alerts in DynamoDB: one item for all that is kept under a rule's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.errors import StateConflict
from penstock.schema.alert import Watch
from penstock.stores._alerts import dump as in_words
from penstock.stores._alerts import load
from penstock.stores._items import Item, dump

if TYPE_CHECKING:
    from penstock.stores.dynamodb.connection import Connection

VERSION = 1
TABLE: dict[str, Any] = {
    "AttributeDefinitions": [{"AttributeName": "rule", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "rule", "KeyType": "HASH"}],
}

WATCH_IS_THE_FIRST = "attribute_not_exists(#rule)"
WATCH_IS_AS_EXPECTED = "revision = :expected"
_RULE = {"#rule": "rule"}


class Alerts:
    """The store's part that keeps rules and alerts."""

    _db: Connection

    async def list_watches(self) -> list[Watch]:
        """Every watch, by name."""
        scan = {"TableName": self._db.table("alerts"), "ConsistentRead": True}
        found = [_watch(item) async for page in self._db.pages("Scan", scan) for item in page]
        return sorted(found, key=lambda watch: watch.name)

    async def find_watch(self, name: str) -> Watch | None:
        """What is kept under a rule's name, or ``None``."""
        item = await self._db.get("alerts", dump({"rule": name}))
        return _watch(item) if item else None

    async def replace_watch(self, watch: Watch) -> None:
        """Write a watch's next revision; ``StateConflict`` unless the one before it is the present one."""
        item = dump({"rule": watch.name, "revision": watch.revision, "kept": in_words(watch), "v": VERSION})
        try:
            if expected := watch.revision - 1:
                await self._db.put("alerts", item, WATCH_IS_AS_EXPECTED, dump({":expected": expected}))
            else:
                await self._db.put("alerts", item, WATCH_IS_THE_FIRST, names=_RULE)
        except StateConflict:
            raise StateConflict(f"the alerts of {watch.name} were changed meanwhile") from None

    async def remove_watch(self, watch: Watch) -> bool:
        """Forget a watch; ``False`` if it is not of this revision any more."""
        removal = {
            "TableName": self._db.table("alerts"),
            "Key": dump({"rule": watch.name}),
            "ConditionExpression": WATCH_IS_AS_EXPECTED,
            "ExpressionAttributeValues": dump({":expected": watch.revision}),
        }
        try:
            await self._db.call("DeleteItem", removal)
        except StateConflict:
            return False
        return True


def _watch(item: Item) -> Watch:
    return load(item["rule"]["S"], int(item["revision"]["N"]), item["kept"]["S"])
