"""Tests of the wire run on uvloop, as ``penstock serve`` does, with a badly behaved upstream or two."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.wire import gateway as gateways
from tests.wire import upstream as upstreams
from tests.wire.gateway import Gateway
from tests.wire.upstream import Upstream


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], Any]]:
    """The loop of the real server."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
async def nothing_is_left_to_the_loop() -> AsyncIterator[None]:
    """No callback or forgotten task fails unseen."""
    unseen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
    yield
    gc.collect(1)
    assert not unseen


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """The upstream of the deployment that is tried first."""
    async with upstreams.serve() as upstream:
        yield upstream


@pytest.fixture
async def second() -> AsyncIterator[Upstream]:
    """The upstream of the deployment that is tried next; a test asks for it by name."""
    async with upstreams.serve() as upstream:
        yield upstream


@pytest.fixture
async def gateway(request: pytest.FixtureRequest, tmp_path: Path, upstream: Upstream) -> AsyncIterator[Gateway]:
    """A gateway with one deployment; ``bounded`` sets its ``request`` section."""
    bounds = getattr(request, "param", {})
    async with gateways.serve(tmp_path, gateways.provider(upstream.url), **bounds) as gateway:
        yield gateway


@pytest.fixture
async def pair(
    request: pytest.FixtureRequest, tmp_path: Path, upstream: Upstream, second: Upstream
) -> AsyncIterator[Gateway]:
    """A gateway with two deployments of one model: ``upstream``, and after it ``second``."""
    providers = [gateways.provider(upstream.url), gateways.provider(second.url, name="second", priority=2)]
    async with gateways.serve(tmp_path, *providers, **getattr(request, "param", {})) as gateway:
        yield gateway


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials of AWS in the environment, where the usual chain looks first."""
    from tests.wire.amazon import ENVIRONMENT  # brings botocore along

    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
