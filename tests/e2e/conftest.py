"""One gateway with a simulated model for all tests of a process that only ask it things."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.server import SIMULATED, Server


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("gateway"), SIMULATED) as running:
        yield running


@pytest.fixture(scope="session")
def client(gateway: Server) -> Iterator[httpx.Client]:
    with gateway.client() as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_went_unforeseen(request: pytest.FixtureRequest) -> Iterator[None]:
    """However odd the request was, the gateway foresaw it: its log holds no traceback."""
    yield
    if "gateway" in request.fixturenames:
        assert "Traceback" not in request.getfixturevalue("gateway").err
