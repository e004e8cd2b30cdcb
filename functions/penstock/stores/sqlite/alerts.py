"""Rules and alerts in SQLite: one row for all that is kept under a rule's name."""

from __future__ import annotations

import sqlite3

from penstock.errors import StateConflict
from penstock.schema.alert import Watch
from penstock.stores._alerts import dump, load
from penstock.stores.sqlite.connection import Connection

TABLES = (
    """CREATE TABLE alerts (
        rule TEXT NOT NULL PRIMARY KEY,
        revision INTEGER NOT NULL,
        kept TEXT NOT NULL
    )""",
)

_LIST = "SELECT rule, revision, kept FROM alerts ORDER BY rule"
_FIND = "SELECT rule, revision, kept FROM alerts WHERE rule = ?"
_REPLACE = "INSERT OR REPLACE INTO alerts VALUES (?, ?, ?)"
_REMOVE = "DELETE FROM alerts WHERE rule = ? AND revision = ?"


class Alerts:
    """The store's part that keeps rules and alerts."""

    _db: Connection

    async def list_watches(self) -> list[Watch]:
        """Every watch, by name."""
        return await self._db.read(_list)

    async def find_watch(self, name: str) -> Watch | None:
        """What is kept under a rule's name, or ``None``."""
        return await self._db.read(_find, name)

    async def replace_watch(self, watch: Watch) -> None:
        """Write a watch's next revision; ``StateConflict`` unless the one before it is the present one."""
        await self._db.write(_replace, watch)

    async def remove_watch(self, watch: Watch) -> bool:
        """Forget a watch; ``False`` if it is not of this revision any more."""
        return await self._db.write(_remove, watch)


def _list(sql: sqlite3.Connection) -> list[Watch]:
    return [load(*row) for row in sql.execute(_LIST)]


def _find(sql: sqlite3.Connection, name: str) -> Watch | None:
    row = sql.execute(_FIND, (name,)).fetchone()
    return load(*row) if row else None


def _replace(sql: sqlite3.Connection, watch: Watch) -> None:
    found = _find(sql, watch.name)
    if (found.revision if found else 0) != watch.revision - 1:
        raise StateConflict(f"the alerts of {watch.name} were changed meanwhile")
    sql.execute(_REPLACE, (watch.name, watch.revision, dump(watch)))


def _remove(sql: sqlite3.Connection, watch: Watch) -> bool:
    return sql.execute(_REMOVE, (watch.name, watch.revision)).rowcount == 1
