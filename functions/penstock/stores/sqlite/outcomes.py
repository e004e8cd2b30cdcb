"""The outcome ledger in SQLite.

Appending is cheap as long as request ids grow with time, as the gateway's do: then every index grows at its end.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence
from typing import Any

from penstock.core.traffic import Counts, Tally
from penstock.core.usage import DAY, Sums, name_day
from penstock.schema.outcome import FAILED, Failure, Outcome, Usage, failure
from penstock.schema.traffic import Traffic
from penstock.schema.usage import UsageLine
from penstock.stores.sqlite.connection import Connection

TABLES = (
    """CREATE TABLE outcomes (
        request_id TEXT NOT NULL PRIMARY KEY,
        started_at REAL NOT NULL,
        duration REAL NOT NULL,
        key_id TEXT NOT NULL,
        owner TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        model TEXT NOT NULL,
        deployment TEXT NOT NULL,
        ended TEXT NOT NULL,
        status INTEGER NOT NULL,
        code TEXT NOT NULL,
        stream INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        ttft REAL,
        prompt_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        cached_tokens INTEGER NOT NULL,
        usage_reported INTEGER NOT NULL,
        cost_nanos INTEGER,
        failures TEXT NOT NULL,
        marks TEXT NOT NULL
    )""",
    # One index that grows at its end alone: an index led by key_id would dirty one page more for every key in a batch.
    "CREATE INDEX outcomes_by_time ON outcomes (started_at, key_id)",
)

# Not "OR IGNORE": that would pass over every broken constraint in silence, not only a repeated request id.
_RECORD = """INSERT INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (request_id) DO NOTHING"""

_NEWEST = "SELECT * FROM outcomes WHERE started_at >= :since ORDER BY started_at DESC LIMIT :limit"
_NEWEST_OF_KEY = """SELECT * FROM outcomes WHERE key_id = :key_id AND started_at >= :since
    ORDER BY started_at DESC LIMIT :limit"""
_FORGET = "DELETE FROM outcomes WHERE rowid IN (SELECT rowid FROM outcomes WHERE started_at < ? LIMIT ?)"

_CUT = """SELECT started_at FROM outcomes WHERE started_at > :since AND started_at < :until
    ORDER BY started_at LIMIT 1 OFFSET :slice"""
_SUM = f"""SELECT CAST(started_at AS INTEGER) / {DAY} AS day, key_id, owner, model,
        count(*), sum(ended = '{FAILED}'), sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens),
        coalesce(sum(cost_nanos >> 32), 0), coalesce(sum(cost_nanos & 4294967295), 0), sum(cost_nanos IS NULL)
    FROM outcomes
    WHERE started_at >= :since AND started_at < :until AND (:key_id IS NULL OR key_id = :key_id)
    GROUP BY day, key_id, owner, model"""  # noqa: S608 - constants of our own

_FIRST_OF_NEWEST = """SELECT started_at FROM outcomes WHERE started_at >= :since AND started_at < :until
    ORDER BY started_at DESC LIMIT 1 OFFSET :limit"""
_TRAFFIC = """SELECT deployment, model, ended, failures, count(*), sum(duration), count(ttft), coalesce(sum(ttft), 0.0),
        sum(prompt_tokens), sum(completion_tokens), coalesce(sum(cost_nanos / 1e9), 0.0)
    FROM outcomes WHERE started_at >= :since AND started_at < :until
    GROUP BY deployment, model, ended, failures"""

READING = 20_000  # outcomes summed up at once, so that nobody waits long for the file's one thread
SLICE = 2000  # outcomes forgotten in one transaction, so that nobody waits long for its lock


class Outcomes:
    """The store's part that keeps the ledger."""

    _db: Connection

    async def record_outcomes(self, outcomes: Sequence[Outcome]) -> int:
        """Append to the ledger, once a request id; answers how many were new. A repeat changes nothing."""
        return await self._db.append(_record, outcomes) if outcomes else 0

    async def list_outcomes(self, *, key_id: str | None = None, since: float = 0.0, limit: int = 100) -> list[Outcome]:
        """Newest first, at most ``limit``, those that started at or after ``since``."""
        return await self._db.read(_list, key_id, since, limit)

    async def sum_usage(self, *, since: float, until: float, key_id: str | None = None) -> list[UsageLine]:
        """The outcomes that started at or after ``since`` and before ``until``, summed up."""
        sums = Sums()
        while since < until:
            since, found = await self._db.read(_sum, key_id, since, until)
            for day, key, owner, model, *counts, high, low, unpriced in found:
                cost = (high << 32) + low  # halves, because SQLite's own sum fails beyond 64 bits
                sums.add((name_day(day), key, owner, model), (*counts, cost, unpriced))
        return sums.lines()

    async def sum_traffic(self, *, since: float, until: float, limit: int) -> Traffic:
        """The outcomes that started at or after ``since`` and before ``until``, by who was tried: the newest."""
        return await self._db.read(_traffic, since, until, limit)

    async def prune_outcomes(self, before: float) -> int:
        """Forget outcomes that started before; answers how many."""
        forgotten = 0
        while part := await self._db.append(_prune, before):
            forgotten += part
        return forgotten


def _record(sql: sqlite3.Connection, outcomes: Sequence[Outcome]) -> int:
    return sql.executemany(_RECORD, map(_row, outcomes)).rowcount


def _list(sql: sqlite3.Connection, key_id: str | None, since: float, limit: int) -> list[Outcome]:
    statement = _NEWEST if key_id is None else _NEWEST_OF_KEY
    return [_outcome(row) for row in sql.execute(statement, {"key_id": key_id, "since": since, "limit": limit})]


def _sum(
    sql: sqlite3.Connection, key_id: str | None, since: float, until: float
) -> tuple[float, list[tuple[Any, ...]]]:
    """The sums of a slice of time with about ``READING`` outcomes in it, and where the next one begins."""
    span = {"key_id": key_id, "since": since, "until": until, "slice": READING}
    if cut := sql.execute(_CUT, span).fetchone():
        until = span["until"] = cut[0]
    return until, sql.execute(_SUM, span).fetchall()


def _traffic(sql: sqlite3.Connection, since: float, until: float, limit: int) -> Traffic:
    if cut := sql.execute(_FIRST_OF_NEWEST, {"since": since, "until": until, "limit": limit}).fetchone():
        since = math.nextafter(cut[0], math.inf)
    tally = Tally()
    for deployment, model, ended, failures, *counts in sql.execute(_TRAFFIC, {"since": since, "until": until}):
        tally.add(deployment, model, ended, _failures(failures), Counts(*counts))
    return tally.traffic(since, until)


def _prune(sql: sqlite3.Connection, before: float) -> int:
    return sql.execute(_FORGET, (before, SLICE)).rowcount


def _row(outcome: Outcome) -> tuple[Any, ...]:
    """The columns in their order. Truth is told in integers: sqlite3 takes a detour of a microsecond for a bool."""
    usage = outcome.usage
    return (
        outcome.request_id,
        outcome.started_at,
        outcome.duration,
        outcome.key_id,
        outcome.owner,
        outcome.endpoint,
        outcome.model,
        outcome.deployment,
        outcome.ended,
        outcome.status,
        outcome.code,
        1 if outcome.stream else 0,
        outcome.attempts,
        outcome.ttft,
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.cached_tokens,
        1 if outcome.usage_reported else 0,
        outcome.cost_nanos,
        "\n".join(map(Failure.text, outcome.failures)) if outcome.failures else "",
        "\n".join(outcome.marks) if outcome.marks else "",
    )


def _failures(text: str) -> tuple[Failure, ...]:
    return tuple(map(failure, text.split("\n"))) if text else ()


def _outcome(row: tuple[Any, ...]) -> Outcome:
    *first, stream, attempts, ttft, prompt, completion, cached, reported, cost, failures, marks = row
    last = (bool(stream), attempts, ttft, Usage(prompt, completion, cached), bool(reported), cost)
    return Outcome(*(*first, *last, _failures(failures), tuple(marks.split("\n")) if marks else ()))
