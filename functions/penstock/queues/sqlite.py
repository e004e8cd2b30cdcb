"""A queue in one SQLite file, for any number of processes on one machine: ``sqlite:///relative`` or ``sqlite:////absolute``.

A message is written so that it survives the death of any process. A power cut may take the newest: the store then says
again which jobs wait.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from typing import TYPE_CHECKING

from penstock.core.ports import Message
from penstock.stores.sqlite.connection import Connection, file_of

if TYPE_CHECKING:
    from penstock.outbound import HttpClient

TRIES = 5
"""Deliveries of one message; after that it is put aside for a person."""
LOOK = 0.5
"""Seconds between two looks at a queue that is empty: another process may have sent something."""
KEPT = 14 * 86400.0
"""Seconds for which a message is kept, as SQS does."""

TABLES = (
    """CREATE TABLE messages (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        job_id TEXT NOT NULL,
        priority INTEGER NOT NULL,
        sent_at REAL NOT NULL,
        visible_at REAL NOT NULL,
        receives INTEGER NOT NULL
    )""",
    "CREATE INDEX messages_by_turn ON messages (priority DESC, id)",
)

_SEND = "INSERT INTO messages (job_id, priority, sent_at, visible_at, receives) VALUES (?, ?, ?, ?, 0)"
_NEXT = """UPDATE messages SET receives = receives + 1, visible_at = :until WHERE id IN (
        SELECT id FROM messages WHERE visible_at <= :now AND receives < :tries ORDER BY priority DESC, id LIMIT :most
    ) RETURNING id, job_id, receives, priority"""
_RELEASE = "UPDATE messages SET visible_at = ? WHERE id = ? AND receives = ? AND visible_at > ?"
_DONE = "DELETE FROM messages WHERE id = ? AND receives = ?"
_FORGET = "DELETE FROM messages WHERE sent_at < ?"


class SqliteQueue:
    """A ``Queue`` in the file behind ``db``."""

    def __init__(self, db: Connection) -> None:
        self._db = db
        self._sent = asyncio.Event()

    async def open(self) -> None:
        """Make the file and its table where they are missing."""
        await self._db.open()

    async def close(self) -> None:
        """Close the file; idempotent."""
        await self._db.close()

    async def send(self, job_id: str, *, priority: int = 0, delay: float = 0.0) -> None:
        """Have a job's message delivered after ``delay``; higher priorities first."""
        now = time.time()
        await self._db.append(_send, (job_id, priority, now, now + delay))
        self._sent.set()

    async def receive(self, *, most: int, lease: float, wait: float = 0.0) -> list[Message]:
        """Up to ``most`` messages, waiting for the first up to ``wait``; nobody else gets them for ``lease``."""
        end = time.monotonic() + wait
        while True:
            self._sent.clear()
            now = time.time()
            values = {"now": now, "until": now + lease, "tries": TRIES, "most": most}
            found = await self._db.append(_receive, values) if await self._db.read(_waits, now) else []
            left = end - time.monotonic()
            if found or left <= 0:
                return found
            try:
                async with asyncio.timeout(min(LOOK, left)):
                    await self._sent.wait()
            except TimeoutError:
                pass

    async def release(self, message: Message, delay: float = 0.0) -> None:
        """Give a message back, to be delivered again after ``delay``; nothing happens if its lease is over."""
        now = time.time()
        await self._db.append(_change, _RELEASE, (now + delay, *_mine(message), now))
        self._sent.set()

    async def done(self, message: Message) -> None:
        """Deliver a message no more; nothing happens if another has received it since."""
        await self._db.append(_change, _DONE, _mine(message))


def connect(url: str, client: HttpClient | None) -> SqliteQueue:
    """The queue in the file that ``url`` names; nothing is touched before ``open``. ``client`` is not needed here.

    Raises ``SettingsError`` if the URL names no file.
    """
    return SqliteQueue(Connection(file_of(url, "PENSTOCK_QUEUE_URL"), TABLES, name="queue"))


def _mine(message: Message) -> tuple[int, int]:
    number, _, receives = message.receipt.partition(".")
    return int(number), int(receives)


def _send(sql: sqlite3.Connection, values: tuple[str, int, float, float]) -> None:
    sql.execute(_SEND, values)


def _waits(sql: sqlite3.Connection, now: float) -> bool:
    """Whether there is something to receive: looking takes no lock from those who write."""
    looked = sql.execute("SELECT 1 FROM messages WHERE visible_at <= ? AND receives < ? LIMIT 1", (now, TRIES))
    return looked.fetchone() is not None


def _receive(sql: sqlite3.Connection, values: dict[str, float]) -> list[Message]:
    sql.execute(_FORGET, (values["now"] - KEPT,))
    rows = sql.execute(_NEXT, values).fetchall()
    rows.sort(key=lambda row: (-row[3], row[0]))  # RETURNING promises no order
    return [Message(job_id, f"{number}.{receives}", receives) for number, job_id, receives, _ in rows]


def _change(sql: sqlite3.Connection, statement: str, values: tuple[float, ...]) -> None:
    sql.execute(statement, values)
