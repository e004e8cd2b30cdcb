"""What streamed jobs have said so far, in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from penstock.stores._chunks import PAGE, pack, unpack
from penstock.stores.sqlite.connection import Connection

TABLES = (
    """CREATE TABLE chunks (
        job_id TEXT NOT NULL,
        run INTEGER NOT NULL,
        last INTEGER NOT NULL,
        first INTEGER NOT NULL,
        payloads BLOB NOT NULL,
        expires_at REAL NOT NULL,
        PRIMARY KEY (job_id, run, last)
    )""",
    "CREATE INDEX chunks_by_expiry ON chunks (expires_at)",
)

_APPEND = "INSERT OR REPLACE INTO chunks (job_id, run, last, first, payloads, expires_at) VALUES (?, ?, ?, ?, ?, ?)"
_READ = "SELECT first, payloads FROM chunks WHERE job_id = ? AND run = ? AND last > ? ORDER BY last LIMIT ?"


class Chunks:
    """The store's part that keeps what streamed jobs say; it is forgotten together with jobs."""

    _db: Connection

    async def append_chunks(
        self, job_id: str, run: int, first: int, payloads: Sequence[bytes], *, expires: float
    ) -> None:
        """Keep payloads of one run of a job, numbered from ``first``; a repeat changes nothing."""
        row = (job_id, run, first + len(payloads) - 1, first, pack(payloads), expires)
        await self._db.append(_append, row)

    async def read_chunks(self, job_id: str, run: int, *, after: int) -> list[bytes]:
        """Payloads of one run from number ``after`` + 1 on, without a gap: none only if there are none."""
        return unpack(await self._db.read(_read, job_id, run, after), after)


def _append(sql: sqlite3.Connection, row: tuple[str, int, int, int, bytes, float]) -> None:
    sql.execute(_APPEND, row)


def _read(sql: sqlite3.Connection, job_id: str, run: int, after: int) -> list[tuple[int, bytes]]:
    return sql.execute(_READ, (job_id, run, after, PAGE)).fetchall()
