"""A real engine that answers, one that embeds, and a gateway in front of both: all as real processes."""

from __future__ import annotations

import os
import platform
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from openai import AsyncOpenAI

from tests.e2e.server import KEY, Server
from tests.engine.engine import KEY as ENGINE_KEY
from tests.engine.engine import PATIENCE, Engine

HERE = Path(__file__).parent
ASKED = os.environ.get("PENSTOCK_ENGINE") == "1"
NOT_ASKED = "needs a real engine (SGLang, about 6 GB once): `make engine-test` runs it, by setting PENSTOCK_ENGINE=1"
NO_MACHINE = "the engine's locked wheels are for Linux x86_64"
CONFIG = """
auth: {{api_keys: [{key}]}}
limits: {{enabled: false}}
request: {{timeout: 60}}
providers:
  - name: engine
    type: sglang
    base_url: {chat}/v1
    api_key_env: PENSTOCK_ENGINE_API_KEY
    models: [{{name: tiny-chat, upstream: tiny}}]
  - name: embedder
    type: sglang
    base_url: {embed}/v1
    api_key_env: PENSTOCK_ENGINE_API_KEY
    models: [{{name: tiny-embed, upstream: tiny}}]
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip where no engine is asked for, time only the tests themselves, and end the engine last."""
    mine = [item for item in items if item.path.is_relative_to(HERE)]
    for item in mine:
        item.add_marker(pytest.mark.skipif(not ASKED, reason=NOT_ASKED))
        item.add_marker(
            pytest.mark.skipif((platform.system(), platform.machine()) != ("Linux", "x86_64"), reason=NO_MACHINE)
        )
        item.add_marker(pytest.mark.timeout(180, func_only=True))
    items.sort(key=lambda item: item.path == HERE / "test_drain.py")


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, Engine]]:
    """One that answers, one call at a time with two in its queue, and one that embeds. They start side by side."""
    folder = tmp_path_factory.mktemp("engines")
    answering = Engine(folder, "answering", "--max-running-requests", "1", "--max-queued-requests", "2")
    embedding = Engine(folder, "embedding", "--is-embedding")
    try:
        yield answering.ready(), embedding.ready()
    finally:
        answering.kill()
        embedding.kill()


@pytest.fixture
async def engine(engines: tuple[Engine, Engine]) -> AsyncIterator[Engine]:
    """The engine that answers, with nothing to do when the test begins and ends."""
    answering, _ = engines
    await answering.until_idle()
    yield answering
    if answering.process.poll() is None:
        await answering.until_idle()


@pytest.fixture(scope="session")
def gateway(engines: tuple[Engine, Engine], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`python -m penstock serve` with both engines behind it."""
    answering, embedding = engines
    config = CONFIG.format(key=KEY, chat=answering.url, embed=embedding.url)
    with Server(tmp_path_factory.mktemp("gateway"), config, PENSTOCK_ENGINE_API_KEY=ENGINE_KEY) as server:
        yield server


@pytest.fixture
async def openai(engine: Engine, gateway: Server) -> AsyncIterator[AsyncOpenAI]:
    """The official client, which is told to repeat nothing."""
    url = f"{gateway.url}/v1"
    async with AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
async def http(engine: Engine, gateway: Server) -> AsyncIterator[httpx.AsyncClient]:
    """A client that shows the bare wire."""
    headers = {"authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=PATIENCE) as client:
        yield client
