"""One SQLite file and the one thread that touches it.

The file is in WAL mode, so that readers in other processes never wait for a writer. A write is durable when it is
acknowledged: the log is synced at each commit (``synchronous=FULL``), because an accepted job or a revoked key must
outlive a power cut. Only the ledger is written with ``NORMAL``: its batches wait in memory first, so that a power cut
would take the newest of them anyway. Neither loses anything, nor damages the file, when a process dies.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar
from urllib.parse import unquote

from penstock.errors import SettingsError, StateError
from penstock.stores._breaker import Answered, Breaker

BUDGET = 2.0  # seconds for one call, waiting in line included
PATIENCE = 1.5  # seconds of waiting for another process's lock: it ends before the budget, so that the error names it
TURN = 0.05  # seconds of that which SQLite waits by itself: its pauses grow, and among many writers it would starve
PAUSE = 0.001  # seconds before the next turn

VERSION = 15  # of the tables, in PRAGMA user_version: count it up with every change of a table
APPLICATION = 0x50454E53  # "PENS", in PRAGMA application_id

PROBE = "CREATE TABLE probe (one INTEGER PRIMARY KEY CHECK (one = 1), at INTEGER NOT NULL)"

P = ParamSpec("P")
T = TypeVar("T")

_SCHEME = "sqlite:///"
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

_ELSEWHERE = "or set PENSTOCK_STATE_URL to another path"
_WORDS = {
    sqlite3.SQLITE_BUSY: "stayed locked by another process for {patience:g} s; end the one that `fuser {path}`"
    " shows, and keep the file on a local disk",
    sqlite3.SQLITE_LOCKED: "stayed locked for {patience:g} s; try again",
    sqlite3.SQLITE_FULL: "cannot grow: the disk is full; free some space (nothing that was acknowledged is lost)",
    sqlite3.SQLITE_READONLY: f"cannot be written; let user id {{user}} write it and its directory, {_ELSEWHERE}",
    sqlite3.SQLITE_PERM: f"cannot be written; let user id {{user}} write it and its directory, {_ELSEWHERE}",
    sqlite3.SQLITE_CANTOPEN: f"cannot be opened; let user id {{user}} write it and its directory, {_ELSEWHERE}",
    sqlite3.SQLITE_NOTADB: f"is not an SQLite database; move it away, {_ELSEWHERE}",
    sqlite3.SQLITE_CORRUPT: "is damaged; stop Penstock, and restore a backup or run `sqlite3 {path} .recover`",
    sqlite3.SQLITE_IOERR: "cannot be read or written: the disk reports an error; look at the system's log",
}


def file_of(url: str, setting: str) -> Path:
    """The file that ``sqlite:///relative`` or ``sqlite:////absolute`` names. Raises ``SettingsError`` if it is none."""
    path = unquote(url.removeprefix(_SCHEME))
    if not url.startswith(_SCHEME) or not path or "?" in url or path == ":memory:":
        raise SettingsError(
            f"{url!r} names no file: write sqlite:///relative/path.db or sqlite:////absolute/path.db", setting=setting
        )
    return Path(path)


class Connection:
    """The file at ``path`` with these tables. Every statement runs in one thread of its own, one after the other.

    ``name`` is what metrics call its breaker.
    """

    def __init__(self, path: Path, schema: Sequence[str], name: str = "sqlite") -> None:
        self.path = path
        self._schema = schema
        self._name = name
        self._thread: ThreadPoolExecutor | None = None
        self._sql: sqlite3.Connection | None = None
        self._durable = True
        self._inode: int | None = None
        self.breaker = Breaker(self._name)

    async def open(self) -> None:
        """Open the file, making it (readable by its owner alone) and its tables where they are missing."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="penstock-sqlite")
            self.breaker = Breaker(self._name)
            try:
                await self._run(self._thread, self._open)
            except StateError:
                await self.close()
                raise

    async def close(self) -> None:
        """Let what was begun end, and close the file."""
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.wrap_future(thread.submit(self._close))
            thread.shutdown(wait=False)

    async def read(self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``work`` outside a transaction: one statement, one snapshot."""
        return await self._call(lambda: _patiently(lambda: work(self._opened(), *args, **kwargs)))

    async def write(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run ``work`` in a transaction that survives a power cut once this returns."""
        return await self._call(lambda: self._transact(True, lambda sql: work(sql, *args, **kwargs)))

    async def append(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run ``work`` in a transaction that survives the death of any process once this returns."""
        return await self._call(lambda: self._transact(False, lambda sql: work(sql, *args, **kwargs)))

    async def ping(self) -> None:
        """Raise ``StateError`` unless the file at the path is the one that is open and takes a write."""
        await self.append(self._probe)

    async def _call(self, task: Callable[[], T]) -> T:
        if self._thread is None:
            raise StateError(f"the state file {self.path} is not open")
        with self.breaker.turn():
            return await self._run(self._thread, task)

    async def _run(self, thread: ThreadPoolExecutor, task: Callable[[], T]) -> T:
        future: Future[T] = thread.submit(task)
        try:
            async with asyncio.timeout(BUDGET):
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            if self._sql is not None:
                self._sql.interrupt()  # what runs now was begun no later, so its time is up too
            raise StateError(
                f"the state file {self.path} did not answer within {BUDGET:g} s: its disk is too slow or too busy"
            ) from error
        except sqlite3.Error as error:
            raise explain(error, self.path) from error
        except (OverflowError, UnicodeEncodeError) as error:
            raise Answered(f"the state file {self.path} cannot hold this value: {error}") from error

    # in the thread

    def _open(self) -> None:
        _create(self.path)
        sql = sqlite3.connect(self.path, timeout=TURN, isolation_level=None)
        try:
            _patiently(lambda: _refuse_strangers(sql, self.path))
            _patiently(lambda: sql.execute("PRAGMA journal_mode=WAL"))
            sql.execute("PRAGMA synchronous=FULL")
            self._sql, self._durable, self._inode = sql, True, _inode(self.path)
            self._transact(True, self._make_tables)
        except BaseException:
            self._sql = None
            sql.close()
            raise

    def _make_tables(self, sql: sqlite3.Connection) -> None:
        if _number(sql, "user_version") == 0:
            for statement in (PROBE, *self._schema):
                sql.execute(statement)
            sql.execute(f"PRAGMA application_id={APPLICATION}")
            sql.execute(f"PRAGMA user_version={VERSION}")

    def _probe(self, sql: sqlite3.Connection) -> None:
        if _inode(self.path) != self._inode:
            raise StateError(f"the state file {self.path} was removed or replaced while it was open: restart Penstock")
        sql.execute("INSERT OR REPLACE INTO probe (one, at) VALUES (1, ?)", (time.monotonic_ns(),))

    def _close(self) -> None:
        sql, self._sql = self._sql, None
        if sql is not None:
            sql.close()

    def _opened(self) -> sqlite3.Connection:
        if self._sql is None:
            raise StateError(f"the state file {self.path} is not open")
        return self._sql

    def _transact(self, durable: bool, work: Callable[[sqlite3.Connection], T]) -> T:
        sql = self._opened()
        if durable is not self._durable:
            sql.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._durable = durable
        _patiently(lambda: sql.execute("BEGIN IMMEDIATE"))
        try:
            result = work(sql)
            sql.execute("COMMIT")
        except BaseException:
            if sql.in_transaction:
                sql.execute("ROLLBACK")
            raise
        return result


def explain(error: sqlite3.Error, path: Path) -> StateError:
    """What went wrong with the file, and what a person can do."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    words = _WORDS.get(code)
    if words is None:
        kind = Answered if isinstance(error, sqlite3.DataError | sqlite3.IntegrityError) else StateError
        return kind(f"the state file {path} failed: {error}")
    return StateError(f"the state file {path} {words.format(path=path, patience=PATIENCE, user=os.geteuid())}")


def _create(path: Path) -> None:
    """Make the file where there is none: the log beside it inherits its mode."""
    failed = "cannot be made"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.exists():
            failed = "cannot be written"
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        in_the_way = isinstance(error, FileExistsError | NotADirectoryError)
        reason = f"{path.parent} is not a folder" if in_the_way else error.strerror
        raise StateError(
            f"the state file {path} {failed}: {reason}; let user id {os.geteuid()} write it and its directory,"
            " or set PENSTOCK_STATE_URL to another path"
        ) from None


def _refuse_strangers(sql: sqlite3.Connection, path: Path) -> None:
    """Touch no database of another program, nor tables of another version: there are no migrations."""
    with sql:  # commits, or rolls back
        sql.execute("BEGIN")  # one snapshot: another process may be making the tables
        version, application = _number(sql, "user_version"), _number(sql, "application_id")
        tables = sql.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != APPLICATION and (version or tables):
        raise StateError(
            f"the state file {path} is a database of another program: set PENSTOCK_STATE_URL to another path"
        )
    if application == APPLICATION and version != VERSION:
        newer = version > VERSION
        raise StateError(
            f"the state file {path} was made by {'a newer' if newer else 'an older'} Penstock (its tables have version"
            f" {version}, this one knows {VERSION}): {'bring this one up to date' if newer else 'move it away'}, or set"
            " PENSTOCK_STATE_URL to another path"
        )


def _patiently(task: Callable[[], T]) -> T:
    """Do it when the file is not locked, trying for ``PATIENCE`` seconds."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return task()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _BUSY or time.monotonic() > end:
                raise
        time.sleep(PAUSE)


def _number(sql: sqlite3.Connection, pragma: str) -> int:
    return int(sql.execute(f"PRAGMA {pragma}").fetchone()[0])


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None
