"""Deliveries to webhooks in SQLite."""

from __future__ import annotations

import sqlite3
from dataclasses import fields
from typing import Any

from penstock.schema.webhook import WAITING, Delivery, DueDelivery
from penstock.stores._webhooks import flat, whole
from penstock.stores.sqlite.connection import Connection

TABLES = (
    """CREATE TABLE deliveries (
        id TEXT NOT NULL PRIMARY KEY,
        webhook_id TEXT NOT NULL,
        key_id TEXT NOT NULL,
        message_id TEXT NOT NULL,
        event TEXT NOT NULL,
        body BLOB NOT NULL,
        created_at REAL NOT NULL,
        status TEXT NOT NULL,
        tries INTEGER NOT NULL,
        due_at REAL,
        sender TEXT NOT NULL,
        log TEXT NOT NULL,
        expires_at REAL NOT NULL
    )""",
    "CREATE INDEX deliveries_by_due ON deliveries (due_at) WHERE due_at IS NOT NULL",
    "CREATE INDEX deliveries_by_webhook ON deliveries (webhook_id, created_at)",
    "CREATE INDEX deliveries_waiting ON deliveries (webhook_id) WHERE due_at IS NOT NULL",
    "CREATE INDEX deliveries_by_expiry ON deliveries (expires_at)",
)

_NAMES = tuple(field.name for field in fields(Delivery))
_PLACES = ", ".join(f":{name}" for name in _NAMES)
_CREATE = f"INSERT INTO deliveries VALUES ({_PLACES}) ON CONFLICT (id) DO NOTHING"  # noqa: S608 - names of our own
_FIND = "SELECT * FROM deliveries WHERE id = ?"
_LIST = "SELECT * FROM deliveries WHERE webhook_id = ? AND created_at < ? ORDER BY created_at DESC LIMIT ?"
_COUNT = """SELECT count(*) FROM
    (SELECT 1 FROM deliveries WHERE webhook_id = ? AND due_at IS NOT NULL LIMIT ?)"""
_DUE = "SELECT id, due_at, webhook_id FROM deliveries WHERE due_at <= ? ORDER BY due_at LIMIT ?"
_CLAIM = "UPDATE deliveries SET sender = :sender, due_at = :until WHERE id = :id AND due_at <= :now"
_POSTPONE = "UPDATE deliveries SET due_at = :due_at WHERE id = :id AND due_at = :seen"
_SETTLE = """UPDATE deliveries SET status = :status, tries = :tries, log = :log, due_at = :due_at,
    expires_at = :expires_at, sender = '' WHERE id = :id AND sender = :holder"""
_RESTART = """UPDATE deliveries SET status = :waiting, tries = 0, due_at = :now, sender = ''
    WHERE id = :id AND (sender = '' OR due_at <= :now)"""
_FORGET = "DELETE FROM deliveries WHERE expires_at <= ?"


class Deliveries:
    """The store's part that keeps deliveries."""

    _db: Connection

    async def create_delivery(self, delivery: Delivery) -> bool:
        """Keep a new delivery; ``False`` if its id exists."""
        return await self._db.write(_change, _CREATE, flat(delivery))

    async def find_delivery(self, id: str) -> Delivery | None:
        """The delivery, or ``None``."""
        return await self._db.read(_find, id)

    async def list_deliveries(self, webhook_id: str, *, before: float, limit: int) -> list[Delivery]:
        """Those of a webhook that were created before, the newest first."""
        return await self._db.read(_list, webhook_id, before, limit)

    async def count_waiting(self, webhook_id: str, *, limit: int) -> int:
        """How many of a webhook's deliveries are due now or later, counted up to ``limit``."""
        return await self._db.read(_count, webhook_id, limit)

    async def due_deliveries(self, now: float, *, limit: int) -> list[DueDelivery]:
        """Those whose time has come, the longest overdue first."""
        return await self._db.read(_due, now, limit)

    async def claim_delivery(self, id: str, sender: str, *, now: float, lease: float) -> Delivery | None:
        """Take a delivery that is due, for ``lease`` seconds; ``None`` if it is not to be had."""
        return await self._db.write(_claim, {"id": id, "sender": sender, "now": now, "until": now + lease})

    async def postpone_delivery(self, id: str, *, seen: float, due_at: float) -> bool:
        """Say when a delivery is due again; ``False`` if it is not due as it was ``seen`` any more."""
        return await self._db.write(_change, _POSTPONE, {"id": id, "seen": seen, "due_at": due_at})

    async def settle_delivery(self, delivery: Delivery, sender: str) -> bool:
        """Write what became of a delivery that one holds; ``False`` if it is another's now."""
        return await self._db.write(_change, _SETTLE, {**flat(delivery), "holder": sender})

    async def restart_delivery(self, id: str, *, now: float) -> bool:
        """Have a delivery sent now, as if it was new; ``False`` while somebody is at it, or if there is none."""
        return await self._db.write(_change, _RESTART, {"id": id, "now": now, "waiting": WAITING})

    async def prune_deliveries(self, now: float) -> int:
        """Forget deliveries that have expired; answers how many."""
        return await self._db.append(_forget, now)


def _change(sql: sqlite3.Connection, statement: str, values: dict[str, Any]) -> bool:
    return bool(sql.execute(statement, values).rowcount)


def _find(sql: sqlite3.Connection, id: str) -> Delivery | None:
    row = sql.execute(_FIND, (id,)).fetchone()
    return _delivery(row) if row else None


def _list(sql: sqlite3.Connection, webhook_id: str, before: float, limit: int) -> list[Delivery]:
    return [_delivery(row) for row in sql.execute(_LIST, (webhook_id, before, limit))]


def _count(sql: sqlite3.Connection, webhook_id: str, limit: int) -> int:
    return int(sql.execute(_COUNT, (webhook_id, limit)).fetchone()[0])


def _due(sql: sqlite3.Connection, now: float, limit: int) -> list[DueDelivery]:
    return [DueDelivery(*row) for row in sql.execute(_DUE, (now, limit))]


def _claim(sql: sqlite3.Connection, values: dict[str, Any]) -> Delivery | None:
    return _find(sql, values["id"]) if _change(sql, _CLAIM, values) else None


def _forget(sql: sqlite3.Connection, now: float) -> int:
    return sql.execute(_FORGET, (now,)).rowcount


def _delivery(row: tuple[Any, ...]) -> Delivery:
    return whole(dict(zip(_NAMES, row, strict=True)))
