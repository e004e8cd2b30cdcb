"""Notices and duties in SQLite."""

from __future__ import annotations

import sqlite3
from dataclasses import astuple

from penstock.schema.notice import Notice
from penstock.stores.sqlite.connection import Connection

TABLES = (
    """CREATE TABLE notices (
        place TEXT NOT NULL,
        about TEXT NOT NULL,
        state TEXT NOT NULL,
        at REAL NOT NULL,
        until REAL NOT NULL,
        why TEXT NOT NULL,
        PRIMARY KEY (place, about)
    )""",
    """CREATE TABLE duties (
        name TEXT NOT NULL PRIMARY KEY,
        holder TEXT NOT NULL,
        until REAL NOT NULL
    )""",
)

_POST = """INSERT INTO notices VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (place, about) DO UPDATE SET state = excluded.state, at = excluded.at, until = excluded.until,
    why = excluded.why WHERE excluded.at >= at"""
_FORGET = "DELETE FROM notices WHERE until <= ?"
_ALL = "SELECT place, about, state, at, until, why FROM notices WHERE until > ? ORDER BY place, about"
_TAKE = """INSERT INTO duties VALUES (:name, :holder, :until)
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
    WHERE holder = excluded.holder OR until <= :now"""


class Notices:
    """The store's part that keeps notices and duties."""

    _db: Connection

    async def post_notice(self, notice: Notice) -> None:
        """Put up a notice in the place of an earlier one about the same; one that began later stays."""
        await self._db.append(_post, notice)

    async def list_notices(self, now: float) -> list[Notice]:
        """The notices that are to be believed, by place and subject."""
        return await self._db.read(_list, now)

    async def take_duty(self, name: str, holder: str, *, now: float, until: float) -> bool:
        """Take a duty, or keep it longer; ``False`` while another holds it."""
        values = {"name": name, "holder": holder, "now": now, "until": until}
        return await self._db.append(_take, values)


def _post(sql: sqlite3.Connection, notice: Notice) -> None:
    sql.execute(_FORGET, (notice.at,))
    sql.execute(_POST, astuple(notice))


def _list(sql: sqlite3.Connection, now: float) -> list[Notice]:
    return [Notice(*row) for row in sql.execute(_ALL, (now,))]


def _take(sql: sqlite3.Connection, values: dict[str, object]) -> bool:
    return sql.execute(_TAKE, values).rowcount == 1
