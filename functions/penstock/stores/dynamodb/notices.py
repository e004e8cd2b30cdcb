"""Notices and duties in DynamoDB: one item each, forgotten when its time is over."""

from __future__ import annotations

from dataclasses import asdict
from math import ceil
from typing import TYPE_CHECKING, Any

from penstock.errors import StateConflict
from penstock.schema.notice import Notice
from penstock.stores._items import dump, load

if TYPE_CHECKING:
    from penstock.stores.dynamodb.connection import Connection

VERSION = 1
DUTY = "duty"
TABLE: dict[str, Any] = {
    "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
}

IS_NO_EARLIER_THAN_THE_ONE_BEFORE = "attribute_not_exists(id) OR #at <= :at"
IS_FREE_OR_MINE = "attribute_not_exists(id) OR holder = :holder OR #until <= :now"
IS_A_NOTICE = "about <> :duty AND #until > :now"


class Notices:
    """The store's part that keeps notices and duties."""

    _db: Connection

    async def post_notice(self, notice: Notice) -> None:
        """Put up a notice in the place of an earlier one about the same; one that began later stays."""
        item = {"id": f"{notice.about} {notice.place}", **asdict(notice), "expires": ceil(notice.until), "v": VERSION}
        try:
            await self._db.put(
                "notices", dump(item), IS_NO_EARLIER_THAN_THE_ONE_BEFORE, dump({":at": notice.at}), names={"#at": "at"}
            )
        except StateConflict:
            return

    async def list_notices(self, now: float) -> list[Notice]:
        """The notices that are to be believed, by place and subject."""
        scan = {
            "TableName": self._db.table("notices"),
            "ConsistentRead": True,
            "FilterExpression": IS_A_NOTICE,
            "ExpressionAttributeNames": {"#until": "until"},
            "ExpressionAttributeValues": dump({":duty": DUTY, ":now": now}),
        }
        found = [load(Notice, item) async for page in self._db.pages("Scan", scan) for item in page]
        return sorted(found, key=lambda notice: (notice.place, notice.about))

    async def take_duty(self, name: str, holder: str, *, now: float, until: float) -> bool:
        """Take a duty, or keep it longer; ``False`` while another holds it."""
        item = {"id": f"{DUTY} {name}", "about": DUTY, "holder": holder, "until": until}
        item |= {"expires": ceil(until), "v": VERSION}
        values = dump({":holder": holder, ":now": now})
        try:
            await self._db.put(
                "notices", dump(item | {"v": VERSION}), IS_FREE_OR_MINE, values, names={"#until": "until"}
            )
        except StateConflict:
            return False
        return True
