"""Laws of sudden death: ``kill -9`` in the middle of writing loses nothing that was acknowledged."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path
from subprocess import PIPE

import pytest

from penstock.stores import sqlite
from tests.laws.stores.conftest import ROOT
from tests.laws.stores.records import a_key
from tests.laws.stores.scribe import BATCH

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "functions"), str(ROOT)])}


def kill_in_the_middle(url: str, name: str, acknowledgements: int) -> list[str]:
    """Let a process write until it has been told so often that something is written; kill it; what it was told."""
    command = [sys.executable, "-m", "tests.laws.stores.scribe", url, name]
    with subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=PIPE, text=True) as scribe:
        assert scribe.stdout is not None
        told = [scribe.stdout.readline().strip() for _ in range(acknowledgements)]
        scribe.kill()
        told += scribe.stdout.read().split()
    return told


@pytest.mark.parametrize("life", range(4))
async def test_a_killed_process_loses_nothing_that_was_acknowledged(tmp_path: Path, life: int) -> None:
    path = tmp_path / "state.db"
    url, name = f"sqlite:///{path}", f"scribe-{life}"
    told = kill_in_the_middle(url, name, random.randint(1, 60))
    store = sqlite.connect(url, None)
    await store.open()
    held = Counter(outcome.deployment for outcome in await store.list_outcomes(limit=100_000))
    for number in told:
        assert held[number] == BATCH, "a batch that was acknowledged is in the ledger whole"
        assert await store.find_key(f"{name}-{number}") is not None, "a key that was acknowledged exists"
    assert set(held.values()) <= {BATCH}, "a batch is in the ledger whole or not at all"
    await store.close()


async def test_a_killed_process_damages_nothing_and_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    url = f"sqlite:///{path}"
    for life in range(3):
        kill_in_the_middle(url, f"scribe-{life}", 5)
    store = sqlite.connect(url, None)
    await store.open()
    await store.create_key(a_key())
    await store.ping()
    await store.close()
    with sqlite3.connect(path) as sql:
        assert sql.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    sql.close()


async def test_the_living_write_on_while_others_are_killed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/state.db"
    store = sqlite.connect(url, None)
    await store.open()
    for life in range(3):
        kill_in_the_middle(url, f"scribe-{life}", 5)
        await store.create_key(a_key())
    assert len([key for key in await store.list_keys() if key.id.startswith("key_")]) == 3
    await store.close()
