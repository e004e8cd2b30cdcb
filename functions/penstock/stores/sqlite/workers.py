"""Workers in SQLite."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, fields, replace

from penstock.schema.worker import DRAINING, Load, Worker
from penstock.stores.sqlite.connection import Connection

TABLES = (
    """CREATE TABLE workers (
        id TEXT NOT NULL PRIMARY KEY,
        generation TEXT NOT NULL,
        url TEXT NOT NULL,
        models TEXT NOT NULL,
        state TEXT NOT NULL,
        engine TEXT NOT NULL,
        engine_version TEXT NOT NULL,
        gpu TEXT NOT NULL,
        gpu_memory INTEGER NOT NULL,
        gpus INTEGER NOT NULL,
        running INTEGER NOT NULL,
        waiting INTEGER NOT NULL,
        kv_use REAL NOT NULL,
        capacity INTEGER NOT NULL,
        registered_at REAL NOT NULL,
        lease_until REAL NOT NULL,
        pulls INTEGER NOT NULL
    )""",
)

REMEMBERED = 3600.0
"""Seconds for which a worker that is gone is still listed."""

_FIELDS = tuple(field.name for field in fields(Worker))
_PUT = f"INSERT OR REPLACE INTO workers VALUES ({', '.join(f':{name}' for name in _FIELDS)})"  # noqa: S608
_FORGET = "DELETE FROM workers WHERE lease_until < ?"
_BY_ID = "SELECT * FROM workers WHERE id = ?"
_ALL = "SELECT * FROM workers WHERE lease_until > ? ORDER BY id"
_BEAT = """UPDATE workers SET state = CASE state WHEN 'draining' THEN state ELSE :state END,
    running = :running, waiting = :waiting, kv_use = :kv_use, capacity = :capacity, lease_until = :until
    WHERE id = :id AND generation = :generation"""
_DRAIN = "UPDATE workers SET state = ? WHERE id = ?"


class Workers:
    """The store's part that keeps workers."""

    _db: Connection

    async def register_worker(self, worker: Worker) -> None:
        """Keep a worker, in the place of any earlier generation of its id."""
        await self._db.append(_register, worker)

    async def beat_worker(self, id: str, generation: str, state: str, load: Load, *, until: float) -> Worker | None:
        """Renew a worker's lease and load; ``None`` if it is not known, or another generation is. Draining stays."""
        values = {"id": id, "generation": generation, "state": state, "until": until, **asdict(load)}
        return await self._db.append(_beat, values)

    async def drain_worker(self, id: str) -> Worker | None:
        """Send a worker no more requests; ``None`` if it is not known."""
        return await self._db.append(_drain, id)

    async def list_workers(self, now: float) -> list[Worker]:
        """Every worker, by id; those that are gone for an hour more."""
        return await self._db.read(_list, now - REMEMBERED)


def _register(sql: sqlite3.Connection, worker: Worker) -> None:
    sql.execute(_FORGET, (worker.registered_at - REMEMBERED,))
    sql.execute(_PUT, {**asdict(worker), "models": json.dumps(worker.models)})


def _beat(sql: sqlite3.Connection, values: dict[str, object]) -> Worker | None:
    return _find(sql, str(values["id"])) if sql.execute(_BEAT, values).rowcount else None


def _drain(sql: sqlite3.Connection, id: str) -> Worker | None:
    sql.execute(_DRAIN, (DRAINING, id))
    return _find(sql, id)


def _find(sql: sqlite3.Connection, id: str) -> Worker | None:
    row = sql.execute(_BY_ID, (id,)).fetchone()
    return _worker(row) if row else None


def _list(sql: sqlite3.Connection, since: float) -> list[Worker]:
    return [_worker(row) for row in sql.execute(_ALL, (since,))]


def _worker(row: tuple[object, ...]) -> Worker:
    worker = Worker(*row)  # type: ignore[arg-type]
    return replace(worker, models=tuple(json.loads(str(worker.models))), pulls=bool(worker.pulls))
