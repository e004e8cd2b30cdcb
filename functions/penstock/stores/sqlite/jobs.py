"""Jobs in SQLite."""

from __future__ import annotations

import sqlite3
from dataclasses import astuple
from typing import Any

from penstock.errors import StateConflict
from penstock.schema.job import COMPLETED, FAILED, PROCESSING, QUEUED, Job
from penstock.stores.sqlite.connection import Connection

TABLES = (
    """CREATE TABLE jobs (
        id TEXT NOT NULL PRIMARY KEY,
        key_id TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        body BLOB NOT NULL,
        created_at REAL NOT NULL,
        status TEXT NOT NULL,
        runner TEXT NOT NULL,
        lease_until REAL NOT NULL,
        attempts INTEGER NOT NULL,
        result BLOB NOT NULL,
        error TEXT NOT NULL,
        finished_at REAL
    )""",
)

_STATES = {"queued": QUEUED, "processing": PROCESSING}

_CREATE = "INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"

_CLAIM = """UPDATE jobs SET status = :processing, runner = :runner, lease_until = :until, attempts = attempts + 1
    WHERE id = :id AND (status = :queued OR (status = :processing AND lease_until <= :now))"""

_FINISH = """UPDATE jobs SET status = :status, result = :result, error = :error, finished_at = :now
    WHERE id = :id AND status = :processing AND runner = :runner"""


class Jobs:
    """The store's part that keeps jobs."""

    _db: Connection

    async def create_job(self, job: Job) -> None:
        """Keep a new job; ``StateConflict`` if its id exists."""
        await self._db.write(_create, job)

    async def find_job(self, id: str) -> Job | None:
        """The job, or ``None``."""
        return await self._db.read(_find, id)

    async def claim_job(self, id: str, runner: str, *, now: float, lease: float) -> Job | None:
        """Take a queued job, or one whose lease ran out, for ``lease`` seconds; ``None`` if it is not to be had."""
        until = now + lease
        return await self._db.write(_claim, {"id": id, "runner": runner, "now": now, "until": until, **_STATES})

    async def finish_job(self, id: str, runner: str, *, now: float, result: bytes = b"", error: str = "") -> bool:
        """Write the end once, only by the runner that holds it; ``False`` if it ended already or is another's now."""
        status = FAILED if error else COMPLETED
        end = {"status": status, "result": result, "error": error}
        return await self._db.write(_finish, {"id": id, "runner": runner, "now": now, **end, **_STATES})


def _create(sql: sqlite3.Connection, job: Job) -> None:
    if not sql.execute(_CREATE, astuple(job)).rowcount:
        raise StateConflict(f"a job with the id {job.id} exists already")


def _find(sql: sqlite3.Connection, id: str) -> Job | None:
    row = sql.execute("SELECT * FROM jobs WHERE id = ?", (id,)).fetchone()
    return Job(*row) if row else None


def _claim(sql: sqlite3.Connection, values: dict[str, Any]) -> Job | None:
    return _find(sql, values["id"]) if sql.execute(_CLAIM, values).rowcount else None


def _finish(sql: sqlite3.Connection, values: dict[str, Any]) -> bool:
    return bool(sql.execute(_FINISH, values).rowcount)
