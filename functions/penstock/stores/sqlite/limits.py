"""Meters and holds in SQLite: a row for each number of a meter, and one for each hold."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from penstock.schema.limit import window_ends
from penstock.schema.meter import SECOND, SLOTS, Claim, Hold, Meter, Settlement, Verdict, overdue
from penstock.stores.sqlite.connection import Connection

TABLES = (
    """CREATE TABLE meters (
        meter TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('rate', 'slots', 'spent')),
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
        lost INTEGER NOT NULL,
        windows TEXT NOT NULL,
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
_ADD = "UPDATE meters SET value = value + ? WHERE meter = ? AND kind = ? AND name = ?"
_END = "DELETE FROM holds WHERE id = ? AND meter = ? RETURNING *"
_FORGET = "DELETE FROM meters WHERE forget > 0 AND forget < ?"

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
    meters = [
        (claim, _in_the_way(sql, claim, id, now) if claim.held or claim.ceilings else _numbers(sql, claim.meter))
        for claim in claims
    ]
    tats = {(claim.meter, rate): tat for claim, meter in meters for rate, tat in meter.tats.items()}
    if any(id in meter.holds for _, meter in meters):
        return Verdict((), tats)  # an earlier attempt was granted, all of it
    refusals = tuple(refusal for claim, meter in meters for refusal in meter.refusals(claim, now))
    if refusals:
        return Verdict(refusals, tats)
    for claim, meter in meters:
        hold = claim.hold(id, expires)
        meter.grant(claim, now, hold)
        _write(sql, claim, meter, hold)
        tats |= {(claim.meter, rate): tat for rate, tat in meter.tats.items()}
    return Verdict((), tats)


def _in_the_way(sql: sqlite3.Connection, claim: Claim, id: str, now: int) -> Meter:
    """The claim's meter with the holds that matter to it, once those that have expired are ended."""
    holds = [_hold(row) for row in sql.execute(_IN_THE_WAY, (claim.meter, now, id))]
    _settle(sql, overdue(hold for hold in holds if hold.expires <= now))
    meter = _numbers(sql, claim.meter)
    meter.holds = {hold.id: hold for hold in holds if hold.expires > now}
    return meter


def _write(sql: sqlite3.Connection, claim: Claim, meter: Meter, hold: Hold | None) -> None:
    rows = [(claim.meter, "rate", rate, meter.tats[rate], claim.forget) for rate, _, _ in claim.draws]
    if claim.slots:
        rows.append((claim.meter, SLOTS, "", meter.slots, claim.forget))
    for window, _ in claim.ceilings:
        rows.append((claim.meter, "spent", window, meter.spent[window], int(window_ends(window) or -KEPT) + KEPT))
    sql.executemany(_SET, rows)
    if hold is not None:
        windows = ",".join(hold.windows)
        sql.execute(_HOLD, (hold.id, hold.meter, hold.expires, hold.slots, hold.nanos, hold.lost, windows))


def _settle(sql: sqlite3.Connection, settlements: Sequence[Settlement]) -> int:
    ended = 0
    for settlement in settlements:
        row = sql.execute(_END, (settlement.hold.id, settlement.hold.meter)).fetchone()
        if row is None:
            continue
        ended += 1
        hold = _hold(row)
        changes = [(-back, hold.meter, "rate", rate) for rate, back in settlement.back]
        changes += [(settlement.nanos - hold.nanos, hold.meter, "spent", window) for window in hold.windows]
        if hold.slots:
            changes.append((-hold.slots, hold.meter, SLOTS, ""))
        sql.executemany(_ADD, changes)
    return ended


def _end_expired(sql: sqlite3.Connection, now: int) -> list[Hold]:
    holds = [_hold(row) for row in sql.execute(_EXPIRED, (now,))]
    _settle(sql, overdue(holds))
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
    for kind, what, value in sql.execute(_NUMBERS, (name,)):
        if kind == "rate":
            meter.tats[what] = value
        elif kind == "spent":
            meter.spent[what] = value
        else:
            meter.slots = value
    return meter


def _hold(row: tuple[str, str, int, int, int, int, str]) -> Hold:
    *_, windows = row
    return Hold(*row[:6], tuple(windows.split(",")) if windows else ())
