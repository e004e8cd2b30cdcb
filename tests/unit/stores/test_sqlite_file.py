"""The SQLite file: where it is, who may read it, how safe it is, and which thread touches it."""
# ruff: noqa: ASYNC240 - nothing else runs on the loop of these tests

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock.errors import SettingsError, StateConflict
from penstock.schema.model import Registry
from penstock.stores import sqlite
from penstock.stores.sqlite import SqliteStore, outcomes
from penstock.stores.sqlite.connection import APPLICATION, VERSION
from tests.laws.stores.records import NOW, an_outcome


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = sqlite.connect(f"sqlite:///{path}", None)
    await store.open()
    yield store
    await store.close()


def lanes() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("penstock-sqlite")]


def test_connecting_touches_nothing(tmp_path: Path) -> None:
    sqlite.connect(f"sqlite:///{tmp_path}/deep/state.db", None)
    assert list(tmp_path.iterdir()) == []
    assert lanes() == []


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite:///state.db", "state.db"),
        ("sqlite:///.penstock/state.db", ".penstock/state.db"),
        ("sqlite:////var/lib/penstock/state.db", "/var/lib/penstock/state.db"),
        ("sqlite:///with%20space/state.db", "with space/state.db"),
    ],
)
def test_three_slashes_are_relative_and_four_absolute(url: str, file: str) -> None:
    assert sqlite.connect(url, None)._db.path == Path(file)


@pytest.mark.parametrize(
    "url", ["sqlite://state.db", "sqlite:state.db", "sqlite:///", "sqlite:///:memory:", "sqlite:///a?b=c"]
)
def test_a_url_without_a_file_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(SettingsError, match=r"sqlite:///relative/path\.db or sqlite:////absolute/path\.db"):
        sqlite.connect(url, None)


async def test_a_relative_file_is_made_where_the_process_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = sqlite.connect("sqlite:///.penstock/state.db", None)
    await store.open()
    await store.close()
    assert (tmp_path / ".penstock" / "state.db").is_file()


async def test_only_its_owner_may_read_the_file_its_log_and_its_folder(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = sqlite.connect(f"sqlite:///{tmp_path}/new/state.db", None)
        await store.open()
    finally:
        os.umask(before)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "new").iterdir()}
    assert modes == {"state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600}
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    await store.close()


async def test_the_mode_of_a_file_that_is_there_is_left_alone(path: Path) -> None:
    path.touch(0o640)
    path.chmod(0o640)
    store = sqlite.connect(f"sqlite:///{path}", None)
    await store.open()
    await store.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


async def test_the_file_says_what_it_is_and_of_which_version(store: SqliteStore, path: Path) -> None:
    with sqlite3.connect(path) as sql:
        assert sql.execute("PRAGMA application_id").fetchone() == (APPLICATION,)
        assert sql.execute("PRAGMA user_version").fetchone() == (VERSION,)
        assert sql.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    sql.close()


async def test_what_was_accepted_survives_a_power_cut_and_the_ledger_any_crash(store: SqliteStore) -> None:
    def level(sql: sqlite3.Connection) -> int:
        return int(sql.execute("PRAGMA synchronous").fetchone()[0])

    normal, full = 1, 2
    assert [await store._db.write(level), await store._db.append(level), await store._db.append(level)] == [
        full,
        normal,
        normal,
    ]
    assert await store._db.write(level) == full


async def test_one_thread_touches_the_file_and_ends_with_the_store(store: SqliteStore) -> None:
    before = {thread.ident for thread in lanes()}
    seen = await asyncio.gather(*(store._db.read(lambda sql: threading.get_ident()) for _ in range(20)))
    assert set(seen) == before
    assert len(before) == 1
    (lane,) = lanes()
    await store.close()
    lane.join(5)
    assert not lane.is_alive()


async def test_a_transaction_that_fails_leaves_nothing_behind(store: SqliteStore) -> None:
    def break_off(sql: sqlite3.Connection) -> None:
        sql.execute("INSERT INTO registry VALUES (1, 7, '[]', 0.0, '[]')")
        raise StateConflict("somebody was first")

    with pytest.raises(StateConflict):
        await store._db.write(break_off)
    assert await store.load_registry() == Registry()
    assert (await store.publish_registry([], expected=0, at=1.0)).version == 1


async def test_a_task_that_is_cancelled_while_it_waits_in_line_writes_nothing(store: SqliteStore) -> None:
    gate = threading.Event()
    blocking = asyncio.ensure_future(store._db.read(lambda sql: gate.wait(10)))
    await asyncio.sleep(0)
    waiting = asyncio.ensure_future(store.publish_registry([], expected=0, at=1.0))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.set()
    await blocking
    assert await store.load_registry() == Registry()


async def test_pruning_forgets_all_that_is_old_in_short_transactions(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "SLICE", 3)
    await store.record_outcomes([an_outcome(started_at=NOW - number) for number in range(11)])
    assert await store.prune_outcomes(NOW) == 10
    assert len(await store.list_outcomes()) == 1
    assert await store.prune_outcomes(NOW) == 0
