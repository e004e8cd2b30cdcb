"""Gateways for each store, started as a person starts them, with the documents' own keys."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.contract.described import FLEET, Description
from tests.e2e.server import ROOT, Server

CONFIG = """\
limits: {gateway: {}, endpoint: {}, address: {}, key: {}}
providers:
  - {name: simulated, type: simulated, models: [echo], options: {ttft: 0}}
"""
UNLIMITED = """\
limits: {enabled: false}
logging: {level: WARNING}
providers:
  - {name: simulated, type: simulated, models: [echo], options: {ttft: 0, tokens_per_second: 0}}
"""
AWS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
KEYS = "test-key-123,demo-key-456"
STATES = itertools.count()

Serve = Callable[..., Server]


@pytest.fixture(scope="session")
def dynamodb() -> Iterator[str]:
    """The address of a double of DynamoDB."""
    command = [sys.executable, "-m", "tests.laws.stores.moto_server"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as moto:
        assert moto.stdout is not None
        yield f"region=eu-west-1&endpoint={moto.stdout.readline().strip()}"
        moto.kill()


@pytest.fixture(scope="session", params=["sqlite", "dynamodb"])
def store(request: pytest.FixtureRequest) -> Callable[[Path], dict[str, str]]:
    """Makes a state that is empty, in the environment's words: in a folder, or in tables of its own."""
    if request.param == "sqlite":
        return lambda folder: {"PENSTOCK_STATE_URL": f"sqlite:///{folder}/.penstock/state.db"}
    double = request.getfixturevalue("dynamodb")
    return lambda folder: {
        **AWS,
        "PENSTOCK_STATE_URL": f"dynamodb://contract{next(STATES)}?{double}",
        "PENSTOCK_OBJECTS_URL": f"file://{folder}/objects",
    }


@pytest.fixture(scope="session")
def gateway(store: Callable[[Path], dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The gateway on each store in turn, for all tests that only ask it things."""
    folder = tmp_path_factory.mktemp("gateway")
    with Server(folder, CONFIG, API_KEYS=KEYS, **store(folder)) as running:
        yield running


@pytest.fixture(scope="module")
def description(
    store: Callable[[Path], dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Description]:
    """A gateway on each store in turn, without limits, to be asked whatever can be said; it must foresee it all."""
    folder = tmp_path_factory.mktemp("described")
    fleet = {"PENSTOCK_FLEET_SECRET": FLEET.reveal()}
    with Server(folder, UNLIMITED, API_KEYS=KEYS, **fleet, **store(folder)) as running:
        described = Description(running)
        yield described
        described.caller.close()
        assert "Traceback" not in running.err


@pytest.fixture
def serve(store: Callable[[Path], dict[str, str]], tmp_path: Path) -> Iterator[Serve]:
    """Starts gateways for one test, on each store in turn: ``serve(config, NAME="value")``.

    All that a test starts share one state, which is empty at first, and end with the test.
    """
    with ExitStack() as running:
        state = store(tmp_path)

        def start(config: str = CONFIG, *arguments: str, **variables: str) -> Server:
            (folder := tmp_path / f"gateway{next(STATES)}").mkdir()
            environment = {"API_KEYS": KEYS, **state, **variables}
            return running.enter_context(Server(folder, config, *arguments, **environment))

        yield start
