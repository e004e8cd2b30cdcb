"""Workers in DynamoDB: one item each, forgotten an hour after its lease is over."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from penstock.errors import StateConflict
from penstock.schema.worker import DRAINING, Load, Worker
from penstock.stores._items import Item, dump, load

if TYPE_CHECKING:
    from penstock.stores.dynamodb.connection import Connection

VERSION = 1
REMEMBERED = 3600.0
TABLE: dict[str, Any] = {
    "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
}

IS_THIS_GENERATION = "generation = :generation AND #state <> :draining"
IS_DRAINING = "generation = :generation AND #state = :draining"
EXISTS = "attribute_exists(id)"
LOADED = (
    "SET running = :running, waiting = :waiting, kv_use = :kv_use, #capacity = :capacity,"
    " lease_until = :until, expires = :expires"
)
_NAMES = {"#state": "state", "#capacity": "capacity"}


class Workers:
    """The store's part that keeps workers."""

    _db: Connection

    async def register_worker(self, worker: Worker) -> None:
        """Keep a worker, in the place of any earlier generation of its id."""
        item = dump({**asdict(worker), "v": VERSION, "expires": int(worker.lease_until + REMEMBERED)})
        await self._db.call("PutItem", {"TableName": self._db.table("workers"), "Item": item})

    async def beat_worker(self, id: str, generation: str, state: str, load: Load, *, until: float) -> Worker | None:
        """Renew a worker's lease and load; ``None`` if it is not known, or another generation is. Draining stays."""
        values = {f":{name}": value for name, value in asdict(load).items()}
        values |= {":generation": generation, ":until": until, ":expires": int(until + REMEMBERED)}
        ready = {**values, ":state": state, ":draining": DRAINING}
        for change, condition, given in (
            (f"{LOADED}, #state = :state", IS_THIS_GENERATION, ready),
            (LOADED, IS_DRAINING, {**values, ":draining": DRAINING}),
        ):
            try:
                item = await self._db.update("workers", _key(id), change, condition, values=dump(given), names=_NAMES)
            except StateConflict:
                continue
            return _worker(item)
        return None

    async def drain_worker(self, id: str) -> Worker | None:
        """Send a worker no more requests; ``None`` if it is not known."""
        drained = dump({":draining": DRAINING})
        try:
            item = await self._db.update(
                "workers", _key(id), "SET #state = :draining", EXISTS, values=drained, names={"#state": "state"}
            )
        except StateConflict:
            return None
        return _worker(item)

    async def list_workers(self, now: float) -> list[Worker]:
        """Every worker, by id; those that are gone for an hour more."""
        scan = {"TableName": self._db.table("workers"), "ConsistentRead": True}
        found = [_worker(item) async for page in self._db.pages("Scan", scan) for item in page]
        return sorted((w for w in found if w.lease_until > now - REMEMBERED), key=lambda worker: worker.id)


def _key(id: str) -> Item:
    return {"id": {"S": id}}


def _worker(item: Item) -> Worker:
    return load(Worker, item)
