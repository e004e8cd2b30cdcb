"""Virtual keys in SQLite."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import astuple, fields
from typing import Any

from penstock.errors import StateConflict
from penstock.schema.key import VirtualKey
from penstock.stores.sqlite.connection import Connection

TABLES = (
    """CREATE TABLE keys (
        id TEXT PRIMARY KEY,
        sha256 TEXT NOT NULL UNIQUE,
        hint TEXT NOT NULL,
        description TEXT NOT NULL,
        owner TEXT NOT NULL,
        priority INTEGER NOT NULL,
        scopes TEXT NOT NULL,
        models TEXT NOT NULL,
        created_at REAL NOT NULL,
        expires_at REAL,
        revoked_at REAL
    )""",
)

_FIELDS = tuple(field.name for field in fields(VirtualKey))

_CREATE = "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_BY_HASH = "SELECT * FROM keys WHERE sha256 = ?"
_BY_ID = "SELECT * FROM keys WHERE id = ?"
_ALL = "SELECT * FROM keys ORDER BY created_at, id"
_REVOKE = "UPDATE keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL"


class Keys:
    """The store's part that keeps virtual keys."""

    _db: Connection

    async def create_key(self, key: VirtualKey) -> None:
        """Keep a new key; ``StateConflict`` if its id or its hash exists already."""
        await self._db.write(_create, key)

    async def find_key(self, sha256: str) -> VirtualKey | None:
        """The key with this hash, active or not, or ``None``."""
        return await self._db.read(_find, _BY_HASH, sha256)

    async def list_keys(self) -> list[VirtualKey]:
        """Every key, oldest first."""
        return await self._db.read(_list)

    async def revoke_key(self, id: str, at: float) -> VirtualKey | None:
        """Revoke for good; the first revocation's time stays. ``None`` if there is no such key."""
        return await self._db.write(_revoke, id, at)


def _create(sql: sqlite3.Connection, key: VirtualKey) -> None:
    row = [json.dumps(value) if isinstance(value, tuple) else value for value in astuple(key)]
    if not sql.execute(_CREATE, row).rowcount:
        raise StateConflict(f"a key with the id {key.id} or the same hash exists already")


def _find(sql: sqlite3.Connection, statement: str, value: str) -> VirtualKey | None:
    row = sql.execute(statement, (value,)).fetchone()
    return _key(row) if row else None


def _list(sql: sqlite3.Connection) -> list[VirtualKey]:
    return [_key(row) for row in sql.execute(_ALL)]


def _revoke(sql: sqlite3.Connection, id: str, at: float) -> VirtualKey | None:
    sql.execute(_REVOKE, (at, id))
    return _find(sql, _BY_ID, id)


def _key(row: tuple[Any, ...]) -> VirtualKey:
    values = dict(zip(_FIELDS, row, strict=True))
    values["scopes"], values["models"] = tuple(json.loads(values["scopes"])), tuple(json.loads(values["models"]))
    return VirtualKey(**values)
