"""Jobs in SQLite."""

from __future__ import annotations

import sqlite3
from dataclasses import astuple, fields
from typing import Any

from penstock.errors import StateConflict
from penstock.schema.job import CANCELLED, COMPLETED, FAILED, OPEN, PROCESSING, QUEUED, DueJob, Job
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
        failures INTEGER NOT NULL,
        result BLOB NOT NULL,
        error TEXT NOT NULL,
        finished_at REAL,
        priority INTEGER NOT NULL,
        due_at REAL,
        expires_at REAL,
        model TEXT NOT NULL,
        claims INTEGER NOT NULL,
        started_at REAL,
        streamed INTEGER NOT NULL,
        digest TEXT NOT NULL,
        parked INTEGER NOT NULL,
        notify INTEGER NOT NULL
    )""",
    "CREATE INDEX jobs_by_due ON jobs (due_at) WHERE due_at IS NOT NULL",
    "CREATE INDEX jobs_parked ON jobs (model, priority DESC, created_at) WHERE parked",
    "CREATE INDEX jobs_by_expiry ON jobs (expires_at) WHERE expires_at IS NOT NULL",
)

_STATES = {"queued": QUEUED, "processing": PROCESSING}

_MARKS = ", ".join("?" for _ in fields(Job))
_CREATE = f"INSERT INTO jobs VALUES ({_MARKS}) ON CONFLICT (id) DO NOTHING"  # noqa: S608 - question marks alone

_OUST = "DELETE FROM jobs WHERE id = ? AND status = ? AND claims = ? AND lease_until = ?"

_CLAIM = """UPDATE jobs
    SET status = :processing, runner = :runner, lease_until = :until, due_at = :until, attempts = attempts + 1,
        claims = claims + 1, started_at = COALESCE(started_at, :now), parked = 0
    WHERE id = :id AND (status = :queued OR (status = :processing AND lease_until <= :now))"""

_HELD = "WHERE id = :id AND status = :processing AND runner = :runner"
_RENEW = f"UPDATE jobs SET lease_until = :until, due_at = :until {_HELD}"  # noqa: S608 - constants of our own
_RELEASE = f"""UPDATE jobs SET status = :queued, runner = '', lease_until = 0, due_at = :due_at,
    attempts = attempts - :unbegun, failures = failures + :failed, parked = :parked,
    started_at = IIF(:failed, started_at, NULL) {_HELD}"""  # noqa: S608
_END = "status = :status, finished_at = :now, expires_at = :expires, due_at = :tell_at, body = x'', parked = 0"
_FINISH = f"UPDATE jobs SET {_END}, result = :result, error = :error {_HELD}"  # noqa: S608
_CANCEL = f"UPDATE jobs SET {_END} WHERE id = :id AND status IN (:queued, :processing)"  # noqa: S608

_DUE = "SELECT id, due_at, created_at, priority, status FROM jobs WHERE due_at <= ? ORDER BY due_at LIMIT ?"
_PARKED = """SELECT id, due_at, created_at, priority FROM jobs WHERE model = ? AND parked
    ORDER BY priority DESC, created_at LIMIT ?"""
_POSTPONE = "UPDATE jobs SET due_at = :due_at WHERE id = :id AND due_at = :seen"
_TOLD = """UPDATE jobs SET due_at = NULL, notify = 0
    WHERE id = :id AND due_at IS NOT NULL AND status NOT IN (:queued, :processing)"""
_FORGET = "DELETE FROM jobs WHERE expires_at <= ? AND (due_at IS NULL OR status IN (?, ?))"
_FORGET_CHUNKS = "DELETE FROM chunks WHERE expires_at <= ?"


class Jobs:
    """The store's part that keeps jobs."""

    _db: Connection

    async def create_job(self, job: Job) -> None:
        """Keep a new job; ``StateConflict`` if its id exists."""
        await self._db.write(_create, job)

    async def replace_job(self, job: Job, *, seen: Job) -> bool:
        """Put a job in the place of one with its id; ``False`` if that one is not as it was ``seen`` any more."""
        return await self._db.write(_replace, job, seen)

    async def find_job(self, id: str) -> Job | None:
        """The job, or ``None``."""
        return await self._db.read(_find, id)

    async def claim_job(self, id: str, runner: str, *, now: float, lease: float) -> Job | None:
        """Take a queued job, or one whose lease ran out, for ``lease`` seconds; ``None`` if it is not to be had."""
        return await self._db.write(_claim, {"id": id, "runner": runner, "now": now, "until": now + lease, **_STATES})

    async def renew_job(self, id: str, runner: str, *, now: float, lease: float) -> bool:
        """Keep a job that one holds for ``lease`` seconds more; ``False`` if it ended or is another's now."""
        return await self._change(_RENEW, {"id": id, "runner": runner, "until": now + lease})

    async def release_job(self, id: str, runner: str, *, due_at: float, failed: bool, parked: bool = False) -> bool:
        """Give a job back that one holds, as a try that ``failed`` or as one that did not begin."""
        counts = {"failed": int(failed), "unbegun": int(not failed), "parked": int(parked)}
        return await self._change(_RELEASE, {"id": id, "runner": runner, "due_at": due_at, **counts})

    async def finish_job(
        self,
        id: str,
        runner: str,
        *,
        now: float,
        expires: float,
        result: bytes = b"",
        error: str = "",
        tell_at: float | None = None,
    ) -> bool:
        """Write the end once, only by the runner that holds it; ``False`` if it ended already or is another's now."""
        end = {"status": FAILED if error else COMPLETED, "result": result, "error": error, "tell_at": tell_at}
        return await self._change(_FINISH, {"id": id, "runner": runner, "now": now, "expires": expires, **end})

    async def cancel_job(self, id: str, *, now: float, expires: float, tell_at: float | None = None) -> bool:
        """End an open job without a result; ``False`` if it ended already, or there is none."""
        end = {"status": CANCELLED, "now": now, "expires": expires, "tell_at": tell_at}
        return await self._change(_CANCEL, {"id": id, **end})

    async def due_jobs(self, now: float, *, limit: int) -> list[DueJob]:
        """Jobs that somebody must be told of, the longest overdue first."""
        return await self._db.read(_due, now, limit)

    async def parked_jobs(self, model: str, *, limit: int) -> list[DueJob]:
        """The jobs that wait for a model: the highest priority first, among equals the oldest."""
        return await self._db.read(_list_parked, model, limit)

    async def postpone_job(self, id: str, *, seen: float, due_at: float) -> bool:
        """Say when a job is due again; ``False`` if it is not due as it was ``seen`` any more."""
        return await self._change(_POSTPONE, {"id": id, "seen": seen, "due_at": due_at})

    async def told_job(self, id: str) -> bool:
        """Make a job that has ended due no more; ``False`` if it is open, not due, or there is none."""
        return await self._change(_TOLD, {"id": id})

    async def prune_jobs(self, now: float) -> int:
        """Forget jobs that have expired; answers how many."""
        return await self._db.append(_forget, now)

    async def _change(self, statement: str, values: dict[str, Any]) -> bool:
        return await self._db.write(_update, statement, {**values, **_STATES})


def _create(sql: sqlite3.Connection, job: Job) -> None:
    if not sql.execute(_CREATE, astuple(job)).rowcount:
        raise StateConflict(f"a job with the id {job.id} exists already")


def _replace(sql: sqlite3.Connection, job: Job, seen: Job) -> bool:
    if not sql.execute(_OUST, (seen.id, seen.status, seen.claims, seen.lease_until)).rowcount:
        return False
    _create(sql, job)
    return True


def _find(sql: sqlite3.Connection, id: str) -> Job | None:
    row = sql.execute("SELECT * FROM jobs WHERE id = ?", (id,)).fetchone()
    return Job(*row) if row else None


def _claim(sql: sqlite3.Connection, values: dict[str, Any]) -> Job | None:
    return _find(sql, values["id"]) if sql.execute(_CLAIM, values).rowcount else None


def _due(sql: sqlite3.Connection, now: float, limit: int) -> list[DueJob]:
    return [DueJob(*row) for row in sql.execute(_DUE, (now, limit))]


def _list_parked(sql: sqlite3.Connection, model: str, limit: int) -> list[DueJob]:
    return [DueJob(*row) for row in sql.execute(_PARKED, (model, limit))]


def _update(sql: sqlite3.Connection, statement: str, values: dict[str, Any]) -> bool:
    return bool(sql.execute(statement, values).rowcount)


def _forget(sql: sqlite3.Connection, now: float) -> int:
    sql.execute(_FORGET_CHUNKS, (now,))
    return sql.execute(_FORGET, (now, *OPEN)).rowcount
