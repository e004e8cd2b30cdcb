"""Virtual keys in SQLite."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import fields
from typing import Any

from penstock.errors import StateConflict
from penstock.schema.key import VirtualKey
from penstock.stores._keys import flat, whole
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
        revoked_at REAL,
        tags TEXT NOT NULL,
        previous_sha256 TEXT NOT NULL,
        previous_until REAL NOT NULL,
        revision INTEGER NOT NULL,
        limits TEXT,
        budget TEXT,
        providers TEXT NOT NULL
    )""",
    "CREATE INDEX keys_by_previous ON keys (previous_sha256) WHERE previous_sha256 <> ''",
)

_FIELDS = tuple(field.name for field in fields(VirtualKey))

_CREATE = "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_BY_HASH = "SELECT * FROM keys WHERE sha256 = ?1 OR (previous_sha256 = ?1 AND previous_sha256 <> '')"
_BY_ID = "SELECT * FROM keys WHERE id = ?"
_ALL = "SELECT * FROM keys ORDER BY created_at, id"
_DELETE = "DELETE FROM keys WHERE id = ?"
_REVOKE = "UPDATE keys SET revoked_at = ?, revision = revision + 1 WHERE id = ? AND revoked_at IS NULL"


class Keys:
    """The store's part that keeps virtual keys."""

    _db: Connection

    async def create_key(self, key: VirtualKey) -> None:
        """Keep a new key; ``StateConflict`` if its id or its hash exists already."""
        await self._db.write(_create, key)

    async def find_key(self, sha256: str) -> VirtualKey | None:
        """The key with this hash, active or not, or ``None``."""
        return await self._db.read(_find, _BY_HASH, sha256)

    async def read_key(self, id: str) -> VirtualKey | None:
        """The key with this id, active or not, or ``None``."""
        return await self._db.read(_find, _BY_ID, id)

    async def list_keys(self) -> list[VirtualKey]:
        """Every key, oldest first."""
        return await self._db.read(_list)

    async def revoke_key(self, id: str, at: float) -> VirtualKey | None:
        """Revoke for good; the first revocation's time stays. ``None`` if there is no such key."""
        return await self._db.write(_revoke, id, at)

    async def replace_key(self, key: VirtualKey) -> None:
        """Write a key's next revision; ``StateConflict`` unless the one before it is the present one."""
        await self._db.write(_replace, key)


def _create(sql: sqlite3.Connection, key: VirtualKey) -> None:
    row = [json.dumps(value) if isinstance(value, tuple) else value for value in flat(key).values()]
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


def _replace(sql: sqlite3.Connection, key: VirtualKey) -> None:
    present = _find(sql, _BY_ID, key.id)
    if present is None or present.revision != key.revision - 1:
        raise StateConflict(f"the key {key.id} was changed meanwhile, or is not there")
    if key.sha256 != present.sha256 and _find(sql, _BY_HASH, key.sha256):
        raise StateConflict("a key with this hash exists already")
    sql.execute(_DELETE, (key.id,))
    _create(sql, key)


def _key(row: tuple[Any, ...]) -> VirtualKey:
    values = dict(zip(_FIELDS, row, strict=True))
    return whole(values | {name: tuple(json.loads(values[name])) for name in ("scopes", "models", "tags", "providers")})
