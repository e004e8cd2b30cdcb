"""Deliveries to webhooks in DynamoDB: one item each.

One that is due, now or later, is in the index ``by_due``, in one of ``PARTS`` partitions, and in ``waiting`` under its
webhook, where they are counted.
"""

from __future__ import annotations

import asyncio
import heapq
import zlib
from itertools import chain
from math import ceil
from typing import TYPE_CHECKING, Any

from penstock.errors import StateConflict
from penstock.schema.webhook import WAITING, Delivery, DueDelivery
from penstock.stores._items import Item, dump, load_values
from penstock.stores._webhooks import flat, whole

if TYPE_CHECKING:
    from penstock.stores.dynamodb.connection import Connection

VERSION = 1
PARTS = 4
DUE, BY_WEBHOOK, UNDELIVERED = "by_due", "by_webhook", "waiting"
TABLE: dict[str, Any] = {
    "AttributeDefinitions": [
        {"AttributeName": "id", "AttributeType": "S"},
        {"AttributeName": "due_part", "AttributeType": "S"},
        {"AttributeName": "due_at", "AttributeType": "N"},
        {"AttributeName": "webhook_id", "AttributeType": "S"},
        {"AttributeName": "created_at", "AttributeType": "N"},
        {"AttributeName": "waits_for", "AttributeType": "S"},
    ],
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
    "GlobalSecondaryIndexes": [
        {
            "IndexName": DUE,
            "KeySchema": [
                {"AttributeName": "due_part", "KeyType": "HASH"},
                {"AttributeName": "due_at", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["webhook_id"]},
        },
        {
            "IndexName": BY_WEBHOOK,
            "KeySchema": [
                {"AttributeName": "webhook_id", "KeyType": "HASH"},
                {"AttributeName": "created_at", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "ALL"},
        },
        {
            "IndexName": UNDELIVERED,
            "KeySchema": [{"AttributeName": "waits_for", "KeyType": "HASH"}],
            "Projection": {"ProjectionType": "KEYS_ONLY"},
        },
    ],
}

DELIVERY_IS_NEW = "attribute_not_exists(id)"
DELIVERY_IS_DUE = "due_at <= :now"
DELIVERY_IS_DUE_AS_SEEN = "due_at = :seen"
DELIVERY_IS_HELD = "sender = :holder"
NOBODY_IS_AT_IT = "attribute_exists(id) AND (sender = :nobody OR due_at <= :now)"
TAKEN = "SET sender = :sender, due_at = :until"
POSTPONED = "SET due_at = :due_at"
SETTLED = (
    "SET #status = :status, tries = :tries, #log = :log, expires_at = :expires_at, expires = :expires, sender = :nobody"
)
IS_DUE_AGAIN = "due_at = :due_at, due_part = :part, waits_for = :webhook"
IS_OVER = "REMOVE due_at, due_part, waits_for"
RESTARTED = f"SET #status = :waiting, tries = :none, sender = :nobody, {IS_DUE_AGAIN}"
_STATUS = {"#status": "status"}


class Deliveries:
    """The store's part that keeps deliveries."""

    _db: Connection

    async def create_delivery(self, delivery: Delivery) -> bool:
        """Keep a new delivery; ``False`` if its id exists."""
        item = {**flat(delivery), "expires": ceil(delivery.expires_at), "v": VERSION}
        if delivery.due_at is not None:
            item |= {"due_part": _part(delivery.id), "waits_for": delivery.webhook_id}
        try:
            await self._db.put("deliveries", dump(item), DELIVERY_IS_NEW)
        except StateConflict:
            return False
        return True

    async def find_delivery(self, id: str) -> Delivery | None:
        """The delivery, or ``None``."""
        item = await self._db.get("deliveries", _key(id))
        return _delivery(item) if item else None

    async def list_deliveries(self, webhook_id: str, *, before: float, limit: int) -> list[Delivery]:
        """Those of a webhook that were created before, the newest first."""
        query = {
            "TableName": self._db.table("deliveries"),
            "IndexName": BY_WEBHOOK,
            "KeyConditionExpression": "webhook_id = :webhook AND created_at < :before",
            "ExpressionAttributeValues": dump({":webhook": webhook_id, ":before": before}),
            "ScanIndexForward": False,
            "Limit": limit,
        }
        found: list[Delivery] = []
        async for page in self._db.pages("Query", query):
            found += map(_delivery, page)
            if len(found) >= limit:
                break
        return found[:limit]

    async def count_waiting(self, webhook_id: str, *, limit: int) -> int:
        """How many of a webhook's deliveries are due now or later, counted up to ``limit``."""
        answer = await self._db.call(
            "Query",
            {
                "TableName": self._db.table("deliveries"),
                "IndexName": UNDELIVERED,
                "KeyConditionExpression": "waits_for = :webhook",
                "ExpressionAttributeValues": dump({":webhook": webhook_id}),
                "Select": "COUNT",
                "Limit": limit,
            },
        )
        return int(answer["Count"])

    async def due_deliveries(self, now: float, *, limit: int) -> list[DueDelivery]:
        """Those whose time has come, the longest overdue first."""
        found = await asyncio.gather(*(self._due_deliveries(str(part), now, limit) for part in range(PARTS)))
        return heapq.nsmallest(limit, chain(*found), key=lambda delivery: delivery.due_at)

    async def claim_delivery(self, id: str, sender: str, *, now: float, lease: float) -> Delivery | None:
        """Take a delivery that is due, for ``lease`` seconds; ``None`` if it is not to be had."""
        values = dump({":sender": sender, ":now": now, ":until": now + lease})
        try:
            return _delivery(await self._db.update("deliveries", _key(id), TAKEN, DELIVERY_IS_DUE, values=values))
        except StateConflict:
            return None

    async def postpone_delivery(self, id: str, *, seen: float, due_at: float) -> bool:
        """Say when a delivery is due again; ``False`` if it is not due as it was ``seen`` any more."""
        return await self._change_delivery(
            id, POSTPONED, DELIVERY_IS_DUE_AS_SEEN, {":seen": seen, ":due_at": due_at}, {}
        )

    async def settle_delivery(self, delivery: Delivery, sender: str) -> bool:
        """Write what became of a delivery that one holds; ``False`` if it is another's now."""
        values = {f":{name}": flat(delivery)[name] for name in ("status", "tries", "log", "expires_at")}
        values |= {":expires": ceil(delivery.expires_at), ":nobody": "", ":holder": sender}
        change = f"{IS_OVER} {SETTLED}"
        if delivery.due_at is not None:
            change = f"{SETTLED}, {IS_DUE_AGAIN}"
            values |= {":due_at": delivery.due_at, ":part": _part(delivery.id), ":webhook": delivery.webhook_id}
        return await self._change_delivery(delivery.id, change, DELIVERY_IS_HELD, values, {"#log": "log", **_STATUS})

    async def restart_delivery(self, id: str, *, now: float) -> bool:
        """Have a delivery sent now, as if it was new; ``False`` while somebody is at it, or if there is none."""
        if (delivery := await self.find_delivery(id)) is None:
            return False
        values = {":waiting": WAITING, ":none": 0, ":nobody": "", ":now": now, ":due_at": now}
        due = {":part": _part(id), ":webhook": delivery.webhook_id}
        return await self._change_delivery(id, RESTARTED, NOBODY_IS_AT_IT, values | due, _STATUS)

    async def prune_deliveries(self, now: float) -> int:
        """Nothing: the table's own TTL forgets them."""
        return 0

    async def _change_delivery(
        self, id: str, change: str, condition: str, values: dict[str, Any], names: dict[str, str]
    ) -> bool:
        try:
            await self._db.update("deliveries", _key(id), change, condition, values=dump(values), names=names or None)
        except StateConflict:
            return False
        return True

    async def _due_deliveries(self, part: str, now: float, limit: int) -> list[DueDelivery]:
        answer = await self._db.call(
            "Query",
            {
                "TableName": self._db.table("deliveries"),
                "IndexName": DUE,
                "KeyConditionExpression": "due_part = :part AND due_at <= :now",
                "ExpressionAttributeValues": dump({":part": part, ":now": now}),
                "Limit": limit,
            },
        )
        return [
            DueDelivery(item["id"]["S"], float(item["due_at"]["N"]), item["webhook_id"]["S"])
            for item in answer["Items"]
        ]


def _key(id: str) -> Item:
    return {"id": {"S": id}}


def _part(id: str) -> str:
    return str(zlib.crc32(id.encode()) % PARTS)


def _delivery(item: Item) -> Delivery:
    return whole(load_values(Delivery, item))
