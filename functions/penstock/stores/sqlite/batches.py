"""Batches in SQLite."""

from __future__ import annotations

import sqlite3
from dataclasses import astuple, fields

from penstock.errors import StateConflict
from penstock.schema.batch import Batch
from penstock.stores.sqlite.connection import Connection

_TYPES = {"str": "TEXT NOT NULL", "int": "INTEGER NOT NULL", "float": "REAL NOT NULL", "float | None": "REAL"}
_NAMES = [field.name for field in fields(Batch)]
TABLES = (
    f"""CREATE TABLE batches (
        {", ".join(f"{field.name} {_TYPES[str(field.type)]}" for field in fields(Batch))},
        PRIMARY KEY (key_id, id)
    ) WITHOUT ROWID""",
    "CREATE INDEX batches_by_age ON batches (kept_until)",
)

_MARKS = ", ".join("?" for _ in _NAMES)
_CREATE = f"INSERT INTO batches VALUES ({_MARKS}) ON CONFLICT DO NOTHING"  # noqa: S608 - our own names alone, as below
_REPLACE = f"""UPDATE batches SET ({", ".join(_NAMES)}) = ({_MARKS})
    WHERE key_id = ? AND id = ? AND revision = ?"""  # noqa: S608
_FIND = "SELECT * FROM batches WHERE key_id = ? AND id = ?"
_LIST = """SELECT * FROM batches WHERE key_id = :key_id AND kept_until > :now AND (:after = '' OR id < :after)
    ORDER BY id DESC LIMIT :limit"""
_FORGET = "DELETE FROM batches WHERE kept_until <= ?"


class Batches:
    """The store's part that keeps batches."""

    _db: Connection

    async def create_batch(self, batch: Batch) -> None:
        """Keep a new batch; ``StateConflict`` if its key has one of this id."""
        await self._db.write(_create, batch)

    async def find_batch(self, key_id: str, id: str) -> Batch | None:
        """The key's batch, or ``None``."""
        return await self._db.read(_find, key_id, id)

    async def replace_batch(self, batch: Batch) -> None:
        """Write a batch's next revision; ``StateConflict`` unless the one before it is the present one."""
        await self._db.write(_replace, batch)

    async def list_batches(self, key_id: str, *, now: float, limit: int, after: str = "") -> list[Batch]:
        """The key's batches, newest first by their ids, beyond the one ``after``."""
        return await self._db.read(_list, {"key_id": key_id, "now": now, "after": after, "limit": limit})

    async def prune_batches(self, now: float) -> int:
        """Forget batches that are kept no longer; answers how many."""
        return await self._db.append(_forget, now)


def _create(sql: sqlite3.Connection, batch: Batch) -> None:
    if not sql.execute(_CREATE, astuple(batch)).rowcount:
        raise StateConflict(f"a batch with the id {batch.id} exists already")


def _find(sql: sqlite3.Connection, key_id: str, id: str) -> Batch | None:
    row = sql.execute(_FIND, (key_id, id)).fetchone()
    return Batch(*row) if row else None


def _replace(sql: sqlite3.Connection, batch: Batch) -> None:
    before = (batch.key_id, batch.id, batch.revision - 1)
    if not sql.execute(_REPLACE, (*astuple(batch), *before)).rowcount:
        raise StateConflict(f"the batch {batch.id} is not at revision {batch.revision - 1} any more")


def _list(sql: sqlite3.Connection, values: dict[str, object]) -> list[Batch]:
    return [Batch(*row) for row in sql.execute(_LIST, values)]


def _forget(sql: sqlite3.Connection, now: float) -> int:
    return sql.execute(_FORGET, (now,)).rowcount
