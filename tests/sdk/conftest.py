"""One gateway for all SDK tests of a process: a simulated model, and a provider that plays scripts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from openai import AsyncOpenAI, OpenAI

from tests.e2e.server import KEY, Server, penstock
from tests.sdk.upstream import SCRIPTS, Upstream, upstream

CONFIG = """
auth: {api_keys: [test-key]}
limits: {enabled: false}
webhooks: {allow_networks: [127.0.0.0/8], allow_http: true}
providers:
  - name: simulated
    type: simulated
    models: [simulated/echo, {name: org/team/model-1, upstream: echo}]
  - name: scripted
    type: openai
    base_url: %s
    models: [%s]
"""


@pytest.fixture(scope="session")
def provider() -> Iterator[Upstream]:
    with upstream() as running:
        yield running


@pytest.fixture(scope="session")
def gateway(provider: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = CONFIG % (provider.url, ", ".join(SCRIPTS))
    with Server(tmp_path_factory.mktemp("gateway"), config) as running:
        yield running


@pytest.fixture(scope="session")
def limited_key(gateway: Server) -> str:
    """A key that may use the simulated model alone."""
    made = penstock("keys", "new", "--model", "simulated/*", folder=gateway.folder)
    assert made.returncode == 0, made.stderr
    return made.stdout.split()[0]


@pytest.fixture
def client(gateway: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0, timeout=20) as made:
        yield made


@pytest.fixture
async def aclient(gateway: Server) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0, timeout=20) as made:
        yield made
