"""The model registry in SQLite: one row, replaced version by version."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from penstock.errors import StateConflict
from penstock.schema.model import ModelCard, Registry, Selection
from penstock.stores._cards import dump, load
from penstock.stores.sqlite.connection import Connection

TABLES = (
    """CREATE TABLE registry (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        version INTEGER NOT NULL,
        cards TEXT NOT NULL,
        refreshed_at REAL NOT NULL,
        selections TEXT NOT NULL
    )""",
)


class Registries:
    """The store's part that keeps the model registry."""

    _db: Connection

    async def load_registry(self) -> Registry:
        """The registry's newest version."""
        return await self._db.read(_load)

    async def publish_registry(
        self, cards: Sequence[ModelCard], selections: Sequence[Selection] = (), *, expected: int, at: float
    ) -> Registry:
        """Replace version ``expected`` by the next; ``StateConflict`` if another was published meanwhile."""
        return await self._db.write(_publish, Registry(expected + 1, tuple(cards), at, tuple(selections)))


def _load(sql: sqlite3.Connection) -> Registry:
    row = sql.execute("SELECT version, cards, refreshed_at, selections FROM registry").fetchone()
    return Registry(row[0], load(ModelCard, row[1]), row[2], load(Selection, row[3])) if row else Registry()


def _publish(sql: sqlite3.Connection, new: Registry) -> Registry:
    row = sql.execute("SELECT version FROM registry").fetchone()
    newest = row[0] if row else 0
    if newest != new.version - 1:
        raise StateConflict(f"the registry is at version {newest}, not {new.version - 1}: load it and publish again")
    values = (new.version, dump(new.cards), new.refreshed_at, dump(new.selections))
    sql.execute("INSERT OR REPLACE INTO registry VALUES (1, ?, ?, ?, ?)", values)
    return new
