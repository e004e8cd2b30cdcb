"""The audit trail in SQLite."""

from __future__ import annotations

import sqlite3
from dataclasses import astuple

from penstock.schema.act import Act
from penstock.stores.sqlite.connection import Connection

TABLES = (
    """CREATE TABLE acts (
        id TEXT PRIMARY KEY,
        at REAL NOT NULL,
        actor TEXT NOT NULL,
        action TEXT NOT NULL,
        target TEXT NOT NULL,
        detail TEXT NOT NULL
    )""",
    "CREATE INDEX acts_by_time ON acts (at)",
)

_RECORD = "INSERT INTO acts VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_NEWEST = "SELECT * FROM acts ORDER BY at DESC, id DESC LIMIT ?"


class Acts:
    """The store's part that keeps the audit trail."""

    _db: Connection

    async def record_act(self, act: Act) -> None:
        """Append to the audit trail, once an id."""
        await self._db.write(_record, act)

    async def list_acts(self, *, limit: int = 100) -> list[Act]:
        """The newest acts first."""
        return await self._db.read(_list, limit)


def _record(sql: sqlite3.Connection, act: Act) -> None:
    sql.execute(_RECORD, astuple(act))


def _list(sql: sqlite3.Connection, limit: int) -> list[Act]:
    return [Act(*row) for row in sql.execute(_NEWEST, (limit,))]
