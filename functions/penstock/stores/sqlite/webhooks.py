"""Webhooks in SQLite: one row for all of a key's."""

from __future__ import annotations

import sqlite3

from penstock.errors import StateConflict
from penstock.schema.webhook import Webhooks
from penstock.stores._webhooks import dump, load
from penstock.stores.sqlite.connection import Connection

TABLES = (
    """CREATE TABLE webhooks (
        key_id TEXT NOT NULL PRIMARY KEY,
        revision INTEGER NOT NULL,
        webhooks TEXT NOT NULL
    )""",
)

_LOAD = "SELECT revision, webhooks FROM webhooks WHERE key_id = ?"
_REPLACE = "INSERT OR REPLACE INTO webhooks VALUES (?, ?, ?)"


class KeptWebhooks:
    """The store's part that keeps webhooks."""

    _db: Connection

    async def load_webhooks(self, key_id: str) -> Webhooks:
        """The webhooks of a key; none, of revision 0, if it never had any."""
        return await self._db.read(_load, key_id)

    async def replace_webhooks(self, webhooks: Webhooks) -> None:
        """Write a key's next revision; ``StateConflict`` unless the one before it is the present one."""
        await self._db.write(_replace, webhooks)


def _load(sql: sqlite3.Connection, key_id: str) -> Webhooks:
    row = sql.execute(_LOAD, (key_id,)).fetchone()
    return Webhooks(key_id, row[0], load(row[1])) if row else Webhooks(key_id)


def _replace(sql: sqlite3.Connection, webhooks: Webhooks) -> None:
    if _load(sql, webhooks.key_id).revision != webhooks.revision - 1:
        raise StateConflict(f"the webhooks of {webhooks.key_id} were changed meanwhile")
    sql.execute(_REPLACE, (webhooks.key_id, webhooks.revision, dump(webhooks.each)))
