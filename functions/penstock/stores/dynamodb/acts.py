"""The audit trail in DynamoDB: one partition, ordered by time. Acts are people's, a few a day, and kept for good."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from penstock.schema.act import Act
from penstock.stores._items import dump, load

if TYPE_CHECKING:
    from penstock.stores.dynamodb.connection import Connection

VERSION = 1
TABLE: dict[str, Any] = {
    "AttributeDefinitions": [
        {"AttributeName": "pk", "AttributeType": "S"},
        {"AttributeName": "sk", "AttributeType": "S"},
    ],
    "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
}

_TRAIL = "acts"
OF_THE_TRAIL = "pk = :pk"


class Acts:
    """The store's part that keeps the audit trail."""

    _db: Connection

    async def record_act(self, act: Act) -> None:
        """Append to the audit trail, once an id."""
        item = dump({"pk": _TRAIL, "sk": f"{act.at:017.6f}#{act.id}", "v": VERSION, **asdict(act)})
        await self._db.call("PutItem", {"TableName": self._db.table("acts"), "Item": item})

    async def list_acts(self, *, limit: int = 100) -> list[Act]:
        """The newest acts first."""
        query = {
            "TableName": self._db.table("acts"),
            "KeyConditionExpression": OF_THE_TRAIL,
            "ExpressionAttributeValues": {":pk": {"S": _TRAIL}},
            "ScanIndexForward": False,
            "ConsistentRead": True,
            "Limit": limit,
        }
        acts: list[Act] = []
        async for page in self._db.pages("Query", query):
            acts += [load(Act, item) for item in page]
            if len(acts) >= limit:
                break
        return acts[:limit]
