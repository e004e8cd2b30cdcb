"""Files in SQLite: their records, not their bytes."""

from __future__ import annotations

import sqlite3
from dataclasses import astuple, fields

from penstock.errors import StateConflict
from penstock.schema.file import File
from penstock.stores.sqlite.connection import Connection

TABLES = (
    """CREATE TABLE files (
        id TEXT NOT NULL,
        key_id TEXT NOT NULL,
        purpose TEXT NOT NULL,
        filename TEXT NOT NULL,
        created_at REAL NOT NULL,
        expires_at REAL NOT NULL,
        size INTEGER NOT NULL,
        parts INTEGER NOT NULL,
        PRIMARY KEY (key_id, id)
    ) WITHOUT ROWID""",
    "CREATE INDEX files_by_expiry ON files (expires_at)",
)

_MARKS = ", ".join("?" for _ in fields(File))
_CREATE = f"INSERT INTO files VALUES ({_MARKS}) ON CONFLICT DO NOTHING"  # noqa: S608 - question marks alone
_REPLACE = """UPDATE files SET purpose = ?, filename = ?, size = ?, parts = ?, created_at = ?, expires_at = ?
    WHERE key_id = ? AND id = ? AND expires_at > ?"""
_FIND = "SELECT * FROM files WHERE key_id = ? AND id = ?"
_SEEN = """key_id = :key_id AND parts > 0 AND expires_at > :now AND (:purpose = '' OR purpose = :purpose)
    AND (:after = '' OR id"""
_OLDEST = f"SELECT * FROM files WHERE {_SEEN} > :after) ORDER BY id LIMIT :limit"  # noqa: S608 - of our own
_NEWEST = f"SELECT * FROM files WHERE {_SEEN} < :after) ORDER BY id DESC LIMIT :limit"  # noqa: S608
_EXPIRED = "SELECT * FROM files WHERE expires_at <= ? ORDER BY expires_at LIMIT ?"
_REMOVE = "DELETE FROM files WHERE key_id = ? AND id = ?"


class Files:
    """The store's part that keeps records of files."""

    _db: Connection

    async def create_file(self, file: File) -> None:
        """Keep a new file's record; ``StateConflict`` if its key has one of this id."""
        await self._db.write(_create, file)

    async def replace_file(self, file: File, *, now: float) -> bool:
        """Write what is known of a file by now; ``False`` if there is none, or it has expired."""
        return await self._db.write(_replace, file, now)

    async def find_file(self, key_id: str, id: str) -> File | None:
        """The key's file, seen or not, or ``None``."""
        return await self._db.read(_find, key_id, id)

    async def list_files(
        self, key_id: str, *, now: float, limit: int, after: str = "", oldest_first: bool = False, purpose: str = ""
    ) -> list[File]:
        """The key's files that are seen, newest first by their ids, beyond the one ``after``."""
        values = {"key_id": key_id, "now": now, "purpose": purpose, "after": after, "limit": limit}
        return await self._db.read(_list, _OLDEST if oldest_first else _NEWEST, values)

    async def expired_files(self, now: float, *, limit: int) -> list[File]:
        """Files of any key that have expired and are not removed yet."""
        return await self._db.read(_list, _EXPIRED, (now, limit))

    async def remove_file(self, file: File) -> None:
        """Forget a file's record; one that is not there is no error."""
        await self._db.write(_remove, file)


def _create(sql: sqlite3.Connection, file: File) -> None:
    if not sql.execute(_CREATE, astuple(file)).rowcount:
        raise StateConflict(f"a file with the id {file.id} exists already")


def _replace(sql: sqlite3.Connection, file: File, now: float) -> bool:
    shown = (file.purpose, file.filename, file.size, file.parts, file.created_at, file.expires_at)
    values = (*shown, file.key_id, file.id, now)
    return bool(sql.execute(_REPLACE, values).rowcount)


def _find(sql: sqlite3.Connection, key_id: str, id: str) -> File | None:
    row = sql.execute(_FIND, (key_id, id)).fetchone()
    return File(*row) if row else None


def _list(sql: sqlite3.Connection, statement: str, values: dict[str, object] | tuple[float, int]) -> list[File]:
    return [File(*row) for row in sql.execute(statement, values)]


def _remove(sql: sqlite3.Connection, file: File) -> None:
    sql.execute(_REMOVE, (file.key_id, file.id))
