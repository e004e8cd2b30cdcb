"""What streamed jobs have said so far, in DynamoDB: an item for each batch, one partition for each job.

The sort key is the run and the number of the batch's last payload, so that one range tells all that follows a number.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

from penstock.errors import RequestTooLarge
from penstock.stores._chunks import PAGE, pack, unpack
from penstock.stores._items import dump
from penstock.stores.dynamodb.jobs import LARGEST

if TYPE_CHECKING:
    from penstock.stores._items import Item
    from penstock.stores.dynamodb.connection import Connection

VERSION = 1
TABLE: dict[str, Any] = {
    "AttributeDefinitions": [
        {"AttributeName": "job_id", "AttributeType": "S"},
        {"AttributeName": "place", "AttributeType": "S"},
    ],
    "KeySchema": [{"AttributeName": "job_id", "KeyType": "HASH"}, {"AttributeName": "place", "KeyType": "RANGE"}],
}

OF_THE_RUN = "job_id = :job_id AND place BETWEEN :next AND :end"


class Chunks:
    """The store's part that keeps what streamed jobs say; the table's own TTL forgets it."""

    _db: Connection

    async def append_chunks(
        self, job_id: str, run: int, first: int, payloads: Sequence[bytes], *, expires: float
    ) -> None:
        """Keep payloads of one run of a job, numbered from ``first``; a repeat changes nothing.

        Raises ``RequestTooLarge`` if no item can hold them.
        """
        packed = pack(payloads)
        if len(packed) > LARGEST:
            raise RequestTooLarge(f"What a job says at once may have {LARGEST} bytes, and this has {len(packed)}.")
        place = _place(run, first + len(payloads) - 1)
        item = {"job_id": job_id, "place": place, "first": first, "payloads": packed, "v": VERSION}
        item["expires"] = ceil(expires)
        await self._db.call("PutItem", {"TableName": self._db.table("chunks"), "Item": dump(item)})

    async def read_chunks(self, job_id: str, run: int, *, after: int) -> list[bytes]:
        """Payloads of one run from number ``after`` + 1 on, without a gap: none only if there are none."""
        values = {":job_id": job_id, ":next": _place(run, after + 1), ":end": _place(run, 10**12 - 1)}
        query = {
            "TableName": self._db.table("chunks"),
            "KeyConditionExpression": OF_THE_RUN,
            "ExpressionAttributeValues": dump(values),
            "ConsistentRead": True,
            "Limit": PAGE,
        }
        return unpack(map(_row, (await self._db.call("Query", query))["Items"]), after)


def _place(run: int, number: int) -> str:
    return f"{run:09d}#{number:012d}"


def _row(item: Item) -> tuple[int, bytes]:
    return int(item["first"]["N"]), b64decode(item["payloads"]["B"])
