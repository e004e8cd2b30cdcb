"""Configurations in SQLite: a row each, and one for what all processes are told."""

from __future__ import annotations

import sqlite3
from dataclasses import astuple

from penstock.errors import StateConflict
from penstock.schema.config_version import ConfigVersion, Steering
from penstock.stores._steering import dump, load
from penstock.stores.sqlite.connection import Connection

TABLES = (
    """CREATE TABLE configs (
        number INTEGER PRIMARY KEY,
        sha256 TEXT NOT NULL UNIQUE,
        text TEXT NOT NULL,
        origin TEXT NOT NULL,
        actor TEXT NOT NULL,
        created_at REAL NOT NULL,
        loaded_at REAL NOT NULL
    )""",
    """CREATE TABLE steering (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        revision INTEGER NOT NULL,
        told TEXT NOT NULL
    )""",
)

_NUMBER = "SELECT number FROM configs WHERE sha256 = ?"
_NEXT = "SELECT coalesce(max(number), 0) + 1 FROM configs"
_KEEP = "INSERT INTO configs VALUES (?, ?, ?, ?, ?, ?, ?)"
_TOUCH = "UPDATE configs SET loaded_at = max(loaded_at, ?) WHERE number = ?"
_READ = "SELECT * FROM configs WHERE number = ?"
_NEWEST = "SELECT * FROM configs ORDER BY number DESC LIMIT ?"
_STEERING = "SELECT revision, told FROM steering"
_STEER = "INSERT OR REPLACE INTO steering VALUES (1, ?, ?)"


class Configs:
    """The store's part that keeps configurations."""

    _db: Connection

    async def number_config(self, sha256: str, text: str, *, origin: str, actor: str, at: float) -> int:
        """The number of the document with this hash: the next one if it is new here, else the one that it has."""
        return await self._db.write(_keep, ConfigVersion(0, sha256, text, origin, actor, at, at))

    async def find_config(self, sha256: str) -> int:
        """The number of the document with this hash; 0 if it has none."""
        return await self._db.read(_number, sha256)

    async def read_config(self, number: int) -> ConfigVersion | None:
        """The document of this number, or ``None``."""
        return await self._db.read(_read, number)

    async def touch_config(self, number: int, at: float) -> None:
        """Say that a version was put in force anew; nothing happens if there is none."""
        await self._db.write(_touch, number, at)

    async def list_configs(self, *, limit: int) -> list[ConfigVersion]:
        """The versions with the highest numbers, the highest first."""
        return await self._db.read(_list, limit)

    async def load_steering(self) -> Steering:
        """What all processes are told; of revision 0 if nobody ever told them anything."""
        return await self._db.read(_steering)

    async def replace_steering(self, steering: Steering) -> None:
        """Write the next revision; ``StateConflict`` unless the one before it is the present one."""
        await self._db.write(_steer, steering)


def _number(sql: sqlite3.Connection, sha256: str) -> int:
    row = sql.execute(_NUMBER, (sha256,)).fetchone()
    return int(row[0]) if row else 0


def _keep(sql: sqlite3.Connection, new: ConfigVersion) -> int:
    if known := _number(sql, new.sha256):
        return known
    number = int(sql.execute(_NEXT).fetchone()[0])
    sql.execute(_KEEP, (number, *astuple(new)[1:]))
    return number


def _read(sql: sqlite3.Connection, number: int) -> ConfigVersion | None:
    row = sql.execute(_READ, (number,)).fetchone()
    return ConfigVersion(*row) if row else None


def _touch(sql: sqlite3.Connection, number: int, at: float) -> None:
    sql.execute(_TOUCH, (at, number))


def _list(sql: sqlite3.Connection, limit: int) -> list[ConfigVersion]:
    return [ConfigVersion(*row) for row in sql.execute(_NEWEST, (limit,))]


def _steering(sql: sqlite3.Connection) -> Steering:
    row = sql.execute(_STEERING).fetchone()
    return load(*row) if row else Steering()


def _steer(sql: sqlite3.Connection, new: Steering) -> None:
    if _steering(sql).revision != new.revision - 1:
        raise StateConflict("the steering of configurations was changed meanwhile")
    sql.execute(_STEER, (new.revision, dump(new)))
