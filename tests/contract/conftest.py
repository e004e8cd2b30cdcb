"""A gateway for each store, started as a person starts it, with the documents' own keys."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.e2e.server import ROOT, Server

CONFIG = """\
limits: {gateway: {}, endpoint: {}, address: {}, key: {}}
providers:
  - {name: simulated, type: simulated, models: [echo], options: {ttft: 0}}
"""
AWS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


@pytest.fixture(scope="session")
def dynamodb() -> Iterator[str]:
    """The address of a double of DynamoDB."""
    command = [sys.executable, "-m", "tests.laws.stores.moto_server"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as moto:
        assert moto.stdout is not None
        yield f"dynamodb://contract?region=eu-west-1&endpoint={moto.stdout.readline().strip()}"
        moto.kill()


@pytest.fixture(scope="session", params=["sqlite", "dynamodb"])
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The gateway on each store in turn."""
    state = {**AWS, "PENSTOCK_STATE_URL": request.getfixturevalue("dynamodb")} if request.param == "dynamodb" else {}
    folder = tmp_path_factory.mktemp(request.param)
    with Server(folder, CONFIG, API_KEYS="test-key-123,demo-key-456", **state) as running:
        yield running
