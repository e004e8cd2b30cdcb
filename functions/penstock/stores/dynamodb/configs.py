"""Configurations in DynamoDB: beside the model registry, an item each, one for each hash, one for the steering."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.errors import StateConflict, StateError
from penstock.schema.config_version import ConfigVersion, Steering
from penstock.stores import _steering
from penstock.stores._items import Item, dump, load

if TYPE_CHECKING:
    from penstock.stores.dynamodb.connection import Connection

VERSION = 1
TRIES = 20
BATCH = 100
"""Items that one call reads at most."""

CONFIG_IS_NEW = "attribute_not_exists(id)"
CONFIG_EXISTS = "attribute_exists(id)"
LATEST_IS_AS_SEEN = "attribute_not_exists(id) OR latest = :seen"
STEERING_IS_THE_FIRST = "attribute_not_exists(id)"
STEERING_IS_AS_EXPECTED = "revision = :expected"

_LATEST: Item = {"id": {"S": "config-latest"}}
_STEERING: Item = {"id": {"S": "config-steering"}}


class Configs:
    """The store's part that keeps configurations."""

    _db: Connection

    async def number_config(self, sha256: str, text: str, *, origin: str, actor: str, at: float) -> int:
        """The number of the document with this hash: the next one if it is new here, else the one that it has."""
        for _ in range(TRIES):
            if known := await self.find_config(sha256):
                return known
            seen = await self._latest()
            new = ConfigVersion(seen + 1, sha256, text, origin, actor, at, at)
            item = dump({name: getattr(new, name) for name in ConfigVersion.__slots__})
            puts = [
                self._put(_config(new.number) | item, CONFIG_IS_NEW),
                self._put(_by_hash(sha256) | dump({"number": new.number}), CONFIG_IS_NEW),
                self._put(_LATEST | dump({"latest": new.number}), LATEST_IS_AS_SEEN, dump({":seen": seen})),
            ]
            try:
                await self._db.call("TransactWriteItems", {"TransactItems": puts})
            except StateConflict:
                continue
            return new.number
        raise StateError("configurations are numbered by others faster than this one can be; try again")

    async def find_config(self, sha256: str) -> int:
        """The number of the document with this hash; 0 if it has none."""
        item = await self._db.get("registry", _by_hash(sha256))
        return int(item["number"]["N"]) if item else 0

    async def read_config(self, number: int) -> ConfigVersion | None:
        """The document of this number, or ``None``."""
        item = await self._db.get("registry", _config(number))
        return load(ConfigVersion, item) if item else None

    async def touch_config(self, number: int, at: float) -> None:
        """Say that a version was put in force anew; nothing happens if there is none."""
        try:
            await self._db.update(
                *("registry", _config(number), "SET loaded_at = :at", CONFIG_EXISTS), values=dump({":at": at})
            )
        except StateConflict:
            return

    async def list_configs(self, *, limit: int) -> list[ConfigVersion]:
        """The versions with the highest numbers, the highest first."""
        latest = await self._latest()
        keys = [_config(number) for number in range(latest, max(latest - limit, 0), -1)]
        table = self._db.table("registry")
        found: list[ConfigVersion] = []
        for first in range(0, len(keys), BATCH):
            requests = {table: {"Keys": keys[first : first + BATCH], "ConsistentRead": True}}
            for answer in await self._db.batch("BatchGetItem", requests, "UnprocessedKeys"):
                found += [load(ConfigVersion, item) for item in answer["Responses"].get(table, ())]
        return sorted(found, key=lambda version: -version.number)

    async def load_steering(self) -> Steering:
        """What all processes are told; of revision 0 if nobody ever told them anything."""
        item = await self._db.get("registry", _STEERING)
        return _steering.load(int(item["revision"]["N"]), item["told"]["S"]) if item else Steering()

    async def replace_steering(self, steering: Steering) -> None:
        """Write the next revision; ``StateConflict`` unless the one before it is the present one."""
        item = _STEERING | dump({"revision": steering.revision, "told": _steering.dump(steering), "v": VERSION})
        if expected := steering.revision - 1:
            await self._db.put("registry", item, STEERING_IS_AS_EXPECTED, dump({":expected": expected}))
        else:
            await self._db.put("registry", item, STEERING_IS_THE_FIRST)

    async def _latest(self) -> int:
        item = await self._db.get("registry", _LATEST)
        return int(item["latest"]["N"]) if item else 0

    def _put(self, item: Item, condition: str, values: Item | None = None) -> dict[str, Any]:
        put = {"TableName": self._db.table("registry"), "Item": item, "ConditionExpression": condition}
        return {"Put": put | ({"ExpressionAttributeValues": values} if values else {})}


def _by_hash(sha256: str) -> Item:
    return {"id": {"S": f"config-sha256-{sha256}"}}


def _config(number: int) -> Item:
    return {"id": {"S": f"config-{number}"}}
