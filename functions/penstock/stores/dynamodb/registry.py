"""The model registry in DynamoDB: one item, replaced version by version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from penstock.errors import StateConflict
from penstock.schema.model import ModelCard, Registry, Selection
from penstock.stores import _cards
from penstock.stores._items import dump

if TYPE_CHECKING:
    from penstock.stores.dynamodb.connection import Connection

VERSION = 1
TABLE: dict[str, Any] = {
    "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
}

REGISTRY_IS_EMPTY = "attribute_not_exists(id)"
REGISTRY_IS_AS_EXPECTED = "version = :expected"

_KEY = {"id": {"S": "registry"}}


class Registries:
    """The store's part that keeps the model registry."""

    _db: Connection

    async def load_registry(self) -> Registry:
        """The registry's newest version."""
        item = await self._db.get("registry", _KEY)
        if item is None:
            return Registry()
        version, refreshed_at = int(item["version"]["N"]), float(item["refreshed_at"]["N"])
        selections = _cards.load(Selection, item["selections"]["S"]) if "selections" in item else ()
        return Registry(version, _cards.load(ModelCard, item["cards"]["S"]), refreshed_at, selections)

    async def publish_registry(
        self, cards: Sequence[ModelCard], selections: Sequence[Selection] = (), *, expected: int, at: float
    ) -> Registry:
        """Replace version ``expected`` by the next; ``StateConflict`` if another was published meanwhile."""
        new = Registry(expected + 1, tuple(cards), at, tuple(selections))
        texts = {"cards": _cards.dump(cards), "selections": _cards.dump(selections)}
        item = dump({"version": new.version, **texts, "refreshed_at": at, "v": VERSION})
        try:
            if expected:
                await self._db.put("registry", _KEY | item, REGISTRY_IS_AS_EXPECTED, dump({":expected": expected}))
            else:
                await self._db.put("registry", _KEY | item, REGISTRY_IS_EMPTY)
        except StateConflict:
            raise StateConflict(f"the registry is no longer at version {expected}: load it and publish again") from None
        return new
