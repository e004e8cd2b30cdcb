"""What the laws of the stores share: the places, and a store at each of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from penstock.core.ports import Store
from penstock.stores.dynamodb import connection as dynamodb
from tests.laws.stores import places
from tests.laws.stores.places import Place

ROOT = Path(__file__).parents[3]
Race = Callable[..., list[Any]]


@pytest.fixture(scope="session")
def moto() -> Iterator[Callable[[], str]]:
    """The address of a moto server, started when somebody first asks."""
    started: list[subprocess.Popen[str]] = []

    @cache
    def address() -> str:
        command = [sys.executable, "-m", "tests.laws.stores.moto_server"]
        started.append(subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert started[0].stdout is not None
        return started[0].stdout.readline().strip()

    yield address
    for server in started:
        server.kill()
        server.communicate()


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Laws say what is true, not how fast a double of DynamoDB is on a busy machine."""
    monkeypatch.setattr(dynamodb, "BUDGET", 30.0)
    monkeypatch.setattr(dynamodb, "ATTEMPT", 30.0)


@pytest.fixture(params=places.ALL)
def place(request: pytest.FixtureRequest, tmp_path: Path, moto: Callable[[], str]) -> Place:
    """Every place where a store can be, new and empty."""
    return places.make(request.param, tmp_path, moto)


@pytest.fixture(params=places.SHARED)
def shared_place(request: pytest.FixtureRequest, tmp_path: Path, moto: Callable[[], str]) -> Place:
    """Every place that other processes reach too, new and empty."""
    return places.make(request.param, tmp_path, moto)


@pytest.fixture
async def store(place: Place) -> AsyncIterator[Store]:
    """An open store, at each place in turn."""
    store = place.connect()
    await store.open()
    yield store
    await store.close()


@pytest.fixture(scope="module")
def arena() -> Iterator[subprocess.Popen[str]]:
    """The process that starts the sixteen."""
    command = [sys.executable, "-m", "tests.laws.stores.arena"]
    paths = os.pathsep.join([str(ROOT / "functions"), str(ROOT)])
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}, stdin=PIPE, stdout=PIPE, text=True
    ) as arena:
        yield arena
        arena.kill()


@pytest.fixture
def race(shared_place: Place, arena: subprocess.Popen[str]) -> Race:
    """Sixteen processes at the shared place, and what each of them saw."""

    def run(play: str, what: str = "") -> list[Any]:
        assert arena.stdin is not None
        assert arena.stdout is not None
        print(json.dumps([play, shared_place.url, what]), file=arena.stdin, flush=True)
        seen: list[Any] = json.loads(arena.stdout.readline())
        failures = [told["failed"] for told in seen if isinstance(told, dict) and "failed" in told]
        assert not failures, failures[0]
        return seen

    return run
