"""Meters and holds in SQLite: a row for each number of a meter, and one for each hold."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from penstock.schema.limit import window_ends
from penstock.schema.meter import SECOND, SLOTS, Claim, Hold, Meter, Settlement, Verdict, overdue
from penstock.stores.sqlite.connection import Connection

TABLES = (
    """CREATE TABLE meters (
        meter TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('rate', 'open', 'slots', 'spent')),
        name TEXT NOT NULL,
        value INTEGER NOT NULL,
        forget INTEGER NOT NULL,
        PRIMARY KEY (meter, kind, name)
    ) WITHOUT ROWID""",
    "CREATE INDEX meters_to_forget ON meters (forget) WHERE forget > 0",
    """CREATE TABLE holds (
        id TEXT NOT NULL,
        meter TEXT NOT NULL,
        expires INTEGER NOT NULL,
        slots INTEGER NOT NULL,
        nanos INTEGER NOT NULL,
        windows TEXT NOT NULL,
        reserved TEXT NOT NULL,
        PRIMARY KEY (id, meter)
    ) WITHOUT ROWID""",
    "CREATE INDEX holds_by_meter ON holds (meter, expires)",
    "CREATE INDEX holds_by_expiry ON holds (expires)",
)

_NUMBERS = "SELECT kind, name, value FROM meters WHERE meter = ?"
_HOLDS = "SELECT * FROM holds WHERE meter = ?"
_IN_THE_WAY = (
    "SELECT * FROM holds WHERE meter = ?1 AND expires <= ?2 UNION SELECT * FROM holds WHERE id = ?3 AND meter = ?1"
)
_EXPIRED = "SELECT * FROM holds WHERE expires <= ?"
_HOLD = "INSERT INTO holds VALUES (?, ?, ?, ?, ?, ?, ?)"
_SET = """INSERT INTO meters VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET value = excluded.value, forget = excluded.forget"""
_TAKE = """INSERT INTO meters VALUES (:meter, 'rate', :rate, :at + :used, :forget)
    ON CONFLICT DO UPDATE SET value = max(value, :at) + :used"""
_ADD = "UPDATE meters SET value = value + ? WHERE meter = ? AND kind = ? AND name = ?"
_END = "DELETE FROM holds WHERE id = ? AND meter = ? RETURNING *"
_FORGET = "DELETE FROM meters WHERE forget > 0 AND forget < ?"

IDLE = 2 * 3600  # seconds after which a rate that nobody takes of is forgotten
KEPT = 40 * 86400  # seconds after its end that a budget's window is kept


class Limits:
    """The store's part that keeps meters."""

    _db: Connection

    async def reserve(self, id: str, claims: Sequence[Claim], *, now: int, expires: int) -> Verdict:
        """Grant every claim, or none. What holds money survives a power cut; the rest, the death of any process."""
        run = self._db.write if any(claim.nanos for claim in claims) else self._db.append
        return await run(_reserve, id, claims, now, expires)

    async def settle(self, settlements: Sequence[Settlement]) -> int:
        """End holds, each once; answers how many had not ended yet."""
        return await self._db.append(_settle, settlements)

    async def end_expired(self, now: int) -> list[Hold]:
        """End the holds that nobody settled in time, as spent, and forget meters that nobody asks for."""
        return await self._db.append(_end_expired, now)

    async def read_meter(self, meter: str) -> Meter:
        """A meter as it is now."""
        return await self._db.read(_meter, meter)


def _reserve(sql: sqlite3.Connection, id: str, claims: Sequence[Claim], now: int, expires: int) -> Verdict:
    lost: list[Hold] = []
    meters = [
        (claim, _in_the_way(sql, claim, id, now, lost) if claim.held or claim.ceilings else _numbers(sql, claim.meter))
        for claim in claims
    ]
    granted = any(id in meter.holds for _, meter in meters)  # by an earlier attempt, all of it
    refusals = () if granted else tuple(r for claim, meter in meters for r in meter.refusals(claim, now))
    if not refusals and not granted:
        for claim, meter in meters:
            hold = claim.hold(id, expires)
            meter.grant(claim, now, hold)
            _write(sql, claim, meter, hold)
    tats = {(claim.meter, rate): front for claim, meter in meters for rate, front in meter.fronts(now).items()}
    return Verdict(refusals, tats, tuple(lost))


def _in_the_way(sql: sqlite3.Connection, claim: Claim, id: str, now: int, lost: list[Hold]) -> Meter:
    """The claim's meter with the holds that matter to it, once those that have expired are ended."""
    holds = [_hold(row) for row in sql.execute(_IN_THE_WAY, (claim.meter, now, id))]
    expired = [hold for hold in holds if hold.expires <= now]
    _settle(sql, overdue(expired, now))
    lost += expired
    meter = _numbers(sql, claim.meter)
    meter.holds = {hold.id: hold for hold in holds if hold.expires > now}
    return meter


def _write(sql: sqlite3.Connection, claim: Claim, meter: Meter, hold: Hold | None) -> None:
    rates = claim.draws + claim.reserves
    rows = [(claim.meter, "rate", rate, meter.tats[rate], claim.forget) for rate, _, _ in rates]
    rows += [(claim.meter, "open", rate, meter.open[rate], claim.forget) for rate, _, _ in claim.reserves]
    if claim.slots:
        rows.append((claim.meter, SLOTS, "", meter.slots, claim.forget))
    for window, _ in claim.ceilings:
        rows.append((claim.meter, "spent", window, meter.spent[window], int(window_ends(window) or -KEPT) + KEPT))
    sql.executemany(_SET, rows)
    if hold is not None:
        numbers = (hold.id, hold.meter, hold.expires, hold.slots, hold.nanos)
        sql.execute(_HOLD, (*numbers, ",".join(hold.windows), json.dumps(hold.reserved)))


def _settle(sql: sqlite3.Connection, settlements: Sequence[Settlement]) -> int:
    ended = 0
    for settlement in settlements:
        row = sql.execute(_END, (settlement.hold.id, settlement.hold.meter)).fetchone()
        if row is None:
            continue
        ended += 1
        hold, used = _hold(row), dict(settlement.used)
        changes = [(-cost, hold.meter, "open", rate) for rate, cost in hold.reserved]
        changes += [(settlement.nanos - hold.nanos, hold.meter, "spent", window) for window in hold.windows]
        if hold.slots:
            changes.append((-hold.slots, hold.meter, SLOTS, ""))
        sql.executemany(_ADD, changes)
        for rate, _ in hold.reserved:
            taken = {"meter": hold.meter, "rate": rate, "at": settlement.at, "used": used.get(rate, 0)}
            sql.execute(_TAKE, taken | {"forget": settlement.at // SECOND + IDLE})
    return ended


def _end_expired(sql: sqlite3.Connection, now: int) -> list[Hold]:
    holds = [_hold(row) for row in sql.execute(_EXPIRED, (now,))]
    _settle(sql, overdue(holds, now))
    sql.execute(_FORGET, (now // SECOND,))
    return holds


def _meter(sql: sqlite3.Connection, name: str) -> Meter:
    with sql:
        sql.execute("BEGIN")  # one snapshot of both tables
        meter = _numbers(sql, name)
        meter.holds = {hold.id: hold for hold in map(_hold, sql.execute(_HOLDS, (name,)))}
    return meter


def _numbers(sql: sqlite3.Connection, name: str) -> Meter:
    meter = Meter()
    numbers = {"rate": meter.tats, "open": meter.open, "spent": meter.spent}
    for kind, what, value in sql.execute(_NUMBERS, (name,)):
        if kind == SLOTS:
            meter.slots = value
        else:
            numbers[kind][what] = value
    return meter


def _hold(row: tuple[str, str, int, int, int, str, str]) -> Hold:
    *_, windows, reserved = row
    return Hold(*row[:5], tuple(windows.split(",")) if windows else (), tuple(map(tuple, json.loads(reserved))))
