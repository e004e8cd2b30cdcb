"""Bad days of the SQLite file: each has a message with the path, what is wrong and what to do."""
# ruff: noqa: ASYNC240 - nothing else runs on the loop of these tests

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from penstock.errors import StateError
from penstock.stores import sqlite
from penstock.stores.sqlite import SqliteStore, connection
from tests.laws.stores.records import a_job, a_key, an_outcome

NOBODY = 65534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = at(path)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def ordinary_user(tmp_path: Path) -> Iterator[None]:
    """Root may write anything: give its powers away for a while."""
    if os.geteuid() != 0:
        yield
        return
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    os.seteuid(NOBODY)
    yield
    os.seteuid(0)


def at(path: Path) -> SqliteStore:
    return sqlite.connect(f"sqlite:///{path}", None)


async def refusal(path: Path) -> str:
    """What is said when the store at this path is opened."""
    with pytest.raises(StateError) as refused:
        await at(path).open()
    message = str(refused.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Somebody else is in the middle of a write."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


async def test_a_folder_that_cannot_be_written(path: Path, request: pytest.FixtureRequest) -> None:
    path.parent.chmod(0o555)
    request.getfixturevalue("ordinary_user")
    message = await refusal(path)
    assert "cannot be made: Permission denied" in message
    assert f"user id {os.geteuid()}" in message
    assert "PENSTOCK_STATE_URL" in message


async def test_a_file_that_is_read_only(path: Path, request: pytest.FixtureRequest) -> None:
    first = at(path)
    await first.open()
    await first.close()
    path.chmod(0o444)
    request.getfixturevalue("ordinary_user")
    message = await refusal(path)
    assert "cannot be written: Permission denied" in message
    assert f"let user id {os.geteuid()} write it and its directory" in message


async def test_a_path_that_is_a_folder(path: Path) -> None:
    path.mkdir()
    assert "cannot be written: Is a directory" in await refusal(path)


async def test_a_path_below_a_file(path: Path) -> None:
    path.write_text("a file")
    assert f"cannot be made: {path} is not a folder" in await refusal(path / "state.db")


async def test_a_file_that_is_no_database_is_left_as_it_is(path: Path) -> None:
    path.write_bytes(b"Dear diary, " * 1000)
    assert "is not an SQLite database; move it away" in await refusal(path)
    assert path.read_bytes() == b"Dear diary, " * 1000


async def test_a_database_of_another_program_is_left_as_it_is(path: Path) -> None:
    with sqlite3.connect(path) as sql:
        sql.execute("CREATE TABLE recipes (name TEXT)")
    sql.close()
    before = path.read_bytes()
    assert "is a database of another program" in await refusal(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("version", "told"), [(99, "a newer Penstock.*bring this one up to date"), (1, "an older Penstock.*move it away")]
)
async def test_a_file_of_another_version_is_left_as_it_is(
    store: SqliteStore, path: Path, version: int, told: str
) -> None:
    await store.close()
    with sqlite3.connect(path) as sql:
        sql.execute(f"PRAGMA user_version = {version}")
    sql.close()
    before = path.read_bytes()
    assert re.search(f"{told}.*PENSTOCK_STATE_URL", await refusal(path))
    assert path.read_bytes() == before


async def test_an_empty_file_becomes_the_state(path: Path) -> None:
    path.touch()
    store = at(path)
    await store.open()
    await store.ping()
    await store.close()


async def test_a_damaged_file(store: SqliteStore, path: Path) -> None:
    for _ in range(200):
        await store.create_key(a_key(description="x" * 1000))
    await store.close()
    whole = path.read_bytes()
    kept = len(whole) // 8192 * 4096  # the tables' shapes are in the first pages, and are read at once
    path.write_bytes(whole[:kept] + b"\xff" * (len(whole) - kept))
    damaged = at(path)
    await damaged.open()
    with pytest.raises(StateError, match=r"is damaged; stop Penstock, and restore a backup"):
        await damaged.list_keys()
    await damaged.close()


async def test_a_full_disk_refuses_writes_until_there_is_space_and_loses_nothing(store: SqliteStore) -> None:
    def allow(sql: sqlite3.Connection, pages: int) -> None:
        sql.execute(f"PRAGMA max_page_count = {pages}")

    kept = a_key()
    await store.create_key(kept)
    await store._db.read(allow, 1)  # SQLite takes it for no less than what there is
    with pytest.raises(StateError, match=r"cannot grow: the disk is full; free some space"):
        await store.create_job(a_job(body=b"x" * 100_000))
    assert await store.find_key(kept.sha256) == kept
    await store._db.read(allow, 1_000_000)
    await store.create_job(a_job(body=b"x" * 100_000))


async def test_a_lock_that_is_not_let_go(store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.2)
    with locked(path):
        with pytest.raises(StateError, match=r"stayed locked by another process for 0\.2 s; end the one that `fuser"):
            await store.create_key(a_key())
        with pytest.raises(StateError, match="locked"):
            await store.ping()
    await store.create_key(a_key())


async def test_a_locked_file_can_be_read_and_holds_up_nobody_else(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.3)
    key = a_key()
    await store.create_key(key)
    with locked(path):
        assert await store.find_key(key.sha256) == key
        writing = asyncio.ensure_future(store.create_key(a_key()))
        turns = 0
        while not writing.done():
            await asyncio.sleep(0)
            turns += 1
        assert turns > 1000
        with pytest.raises(StateError, match="locked"):
            await writing


async def test_a_lock_that_is_let_go_in_time_is_not_even_noticed(store: SqliteStore, path: Path) -> None:
    with locked(path):
        writing = asyncio.ensure_future(store.create_key(a_key()))
        await asyncio.sleep(0.1)
        assert not writing.done()
    await writing


async def test_a_disk_that_does_not_answer(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BUDGET", 0.1)
    gate = threading.Event()
    stuck = asyncio.ensure_future(store._db.read(lambda sql: gate.wait(10)))
    await asyncio.sleep(0)
    with pytest.raises(StateError, match=r"did not answer within 0\.1 s: its disk is too slow"):
        await store.load_registry()
    with pytest.raises(StateError):
        await stuck
    gate.set()


async def test_a_statement_that_takes_too_long_is_broken_off_and_holds_up_nobody_else(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    with monkeypatch.context() as hurried:
        hurried.setattr(connection, "BUDGET", 0.1)
        with pytest.raises(StateError, match="did not answer"):
            await store._db.read(lambda sql: sql.execute(endless).fetchone())
    await store.create_key(a_key())


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_file_that_was_taken_away_fails_the_ping(store: SqliteStore, path: Path, replaced: bool) -> None:
    path.rename(path.with_suffix(".old"))
    if replaced:
        path.touch()
    with pytest.raises(StateError, match="removed or replaced while it was open: restart Penstock"):
        await store.ping()


@pytest.mark.parametrize("differs", [{"attempts": 2**63}, {"model": "\ud800"}, {"started_at": float("nan")}])
async def test_a_value_that_sqlite_cannot_hold(store: SqliteStore, differs: dict[str, object]) -> None:
    with pytest.raises(StateError):
        await store.record_outcomes([an_outcome(), an_outcome(**differs)])
    assert await store.list_outcomes() == []
    assert await store.record_outcomes([an_outcome()]) == 1
