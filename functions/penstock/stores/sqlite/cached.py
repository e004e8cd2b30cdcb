"""What caches keep in SQLite, and who is about to fill them."""

from __future__ import annotations

import sqlite3

from penstock.core.ports.caching import Cached
from penstock.errors import RequestTooLarge
from penstock.stores.sqlite.connection import Connection

LARGEST = 1024 * 1024
"""Bytes of a value at most: all statements wait in one line, and none shall wait for megabytes of another's."""

TABLES = (
    """CREATE TABLE cached (
        key TEXT NOT NULL PRIMARY KEY,
        value BLOB,
        stored_at REAL NOT NULL,
        expires_at REAL NOT NULL,
        filler TEXT NOT NULL,
        filling_until REAL NOT NULL
    )""",
    "CREATE INDEX cached_by_expiry ON cached (expires_at)",
    "CREATE INDEX cached_by_age ON cached (stored_at)",
)

_FIND = "SELECT value, expires_at FROM cached WHERE key = ? AND value IS NOT NULL AND expires_at > ?"
_KEEP = "INSERT OR REPLACE INTO cached VALUES (?, ?, ?, ?, '', 0)"
_CLAIM = """INSERT INTO cached VALUES (:key, NULL, 0, 0, :filler, :until)
    ON CONFLICT (key) DO UPDATE SET filler = excluded.filler, filling_until = excluded.filling_until
    WHERE (stored_at <= :stale OR expires_at <= :now) AND (filler = excluded.filler OR filling_until <= :now)"""
_RELEASE = "UPDATE cached SET filler = '', filling_until = 0 WHERE key = ? AND filler = ?"
_LEAVE = "DELETE FROM cached WHERE key = ? AND filler = ? AND value IS NULL"
_FORGET = """DELETE FROM cached WHERE key IN
    (SELECT key FROM cached WHERE expires_at <= :now AND filling_until <= :now LIMIT :limit)"""
_SIZE = "SELECT coalesce(sum(length(value)), 0) FROM cached"
_OLDEST = "SELECT key, length(value) FROM cached WHERE value IS NOT NULL ORDER BY stored_at LIMIT ?"
_DROP = "DELETE FROM cached WHERE key = ?"


class CachedValues:
    """The store's part that backs caches."""

    _db: Connection

    async def find_cached(self, key: str, *, now: float) -> Cached | None:
        """The value, unless there is none or its time is over."""
        return await self._db.read(_find, key, now)

    async def keep_cached(self, key: str, value: bytes, *, now: float, expires: float) -> None:
        """Keep a value in the place of any other, and nobody is about to bring it any more.

        Raises ``RequestTooLarge`` if no row should hold it.
        """
        if len(value) > LARGEST:
            raise RequestTooLarge(f"A cached value may have {LARGEST} bytes, and this has {len(value)}.")
        await self._db.append(_keep, (key, value, now, expires))

    async def claim_fill(self, key: str, filler: str, *, now: float, until: float, stale: float) -> bool:
        """Be the one who brings the value, or be it longer; ``False`` while another is, or if one is there."""
        values = {"key": key, "filler": filler, "now": now, "until": until, "stale": stale}
        return await self._db.append(_claim, values)

    async def release_fill(self, key: str, filler: str) -> None:
        """Bring nothing after all; nothing changes where another has been at it meanwhile."""
        await self._db.append(_release, (key, filler))

    async def prune_cached(self, now: float, *, room: int, limit: int = 500) -> int:
        """Forget what has expired, and the oldest of what exceeds ``room`` bytes, up to ``limit`` of each."""
        return await self._db.append(_prune, now, room, limit)


def _find(sql: sqlite3.Connection, key: str, now: float) -> Cached | None:
    row = sql.execute(_FIND, (key, now)).fetchone()
    return Cached(*row) if row else None


def _keep(sql: sqlite3.Connection, row: tuple[str, bytes, float, float]) -> None:
    sql.execute(_KEEP, row)


def _claim(sql: sqlite3.Connection, values: dict[str, object]) -> bool:
    return sql.execute(_CLAIM, values).rowcount == 1


def _release(sql: sqlite3.Connection, mine: tuple[str, str]) -> None:
    sql.execute(_LEAVE, mine)
    sql.execute(_RELEASE, mine)


def _prune(sql: sqlite3.Connection, now: float, room: int, limit: int) -> int:
    forgotten = sql.execute(_FORGET, {"now": now, "limit": limit}).rowcount
    excess = sql.execute(_SIZE).fetchone()[0] - room
    if excess > 0:
        for key, size in sql.execute(_OLDEST, (limit,)).fetchall():
            if excess <= 0:
                break
            sql.execute(_DROP, (key,))
            forgotten += 1
            excess -= size
    return forgotten
