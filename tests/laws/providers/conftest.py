"""What the laws of providers share: a connection through each plug, to an engine that answers.

The engine of a plug is the module ``engine_<plug>`` beside this one, with its ``KINDS`` of deployments and a ``serve``
that runs it. It understands the field ``simulate`` of a request as the plug ``simulated`` does; where its wire has no
place for it, the module's ``tell`` says it in other words. ``LACKS`` are the endpoints that the wire does not have.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from penstock import plugs
from penstock.core.fold import fold
from penstock.core.json import parse
from penstock.core.ports import Call, Connection
from penstock.outbound import HttpClient
from penstock.schema.model import Deployment
from penstock.schema.request import CHAT, EMBEDDINGS

PATIENCE = 20.0


def engine_of(plug: str) -> ModuleType:
    """The engine on which a plug is tried."""
    return import_module(f"tests.laws.providers.engine_{plug}")


def lacks(plug: str) -> tuple[str, ...]:
    """The endpoints that a plug's wire does not have."""
    return getattr(engine_of(plug), "LACKS", ())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every law holds for every plug, and for each of its kinds; of an endpoint, for those whose wire has it."""
    if "provider" not in metafunc.fixturenames:
        return
    places = [(plug, kind) for plug in plugs.names("providers") for kind in engine_of(plug).KINDS]
    if "embedder" in metafunc.fixturenames:
        places = [place for place in places if EMBEDDINGS not in lacks(place[0])]
    if "case" in metafunc.fixturenames:
        every = [(place, case) for place in places for case in metafunc.module.BODIES]
        pairs = [(place, case) for place, case in every if metafunc.module.BODIES[case][0] not in lacks(place[0])]
        ids = [f"{kind}-{case}" for (_, kind), case in pairs]
        metafunc.parametrize(("provider", "case"), pairs, ids=ids, indirect=["provider"])
    elif "lacking" in metafunc.fixturenames:
        gaps = [(place, endpoint) for place in places for endpoint in lacks(place[0])]
        ids = [f"{kind}-{endpoint}" for (_, kind), endpoint in gaps]
        metafunc.parametrize(("provider", "lacking"), gaps, ids=ids, indirect=["provider"])
    else:
        metafunc.parametrize("provider", places, ids=[kind for _, kind in places], indirect=True)


@dataclass
class Provider:
    """A plug's connection to an engine, and the calls that the laws make."""

    deployment: Deployment
    connection: Connection
    tell: Callable[[dict[str, Any]], dict[str, Any]]
    calls: list[Call] = field(default_factory=list)

    def call(self, body: dict[str, Any], endpoint: str = CHAT, seconds: float = PATIENCE) -> Call:
        """A call that must end within some seconds."""
        messages = {"messages": [{"role": "user", "content": "Say something nice."}]} if endpoint == CHAT else {}
        call = Call(endpoint, self.tell({"model": "public-1", **messages, **body}), loop_time() + seconds, "req_1")
        self.calls.append(call)
        return call

    async def complete(self, body: dict[str, Any], endpoint: str = CHAT) -> dict[str, Any]:
        """A whole answer; the bytes and the document of one say the same."""
        data, document = await self.connection.complete(self.call(body, endpoint))
        assert parse(data) == document
        return document

    async def folded(self, body: dict[str, Any], endpoint: str = CHAT) -> dict[str, Any]:
        """A stream, folded."""
        return await fold(self.connection.stream(self.call(body, endpoint)), endpoint)

    async def payloads(self, body: dict[str, Any]) -> list[bytes]:
        """Everything that a stream gives."""
        return [payload async for batch in self.connection.stream(self.call(body)) for payload in batch]


def loop_time() -> float:
    """The event loop's clock, in seconds."""
    return asyncio.get_running_loop().time()


@pytest.fixture
async def provider(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Provider]:
    """A connection through the plug under test."""
    plug, kind = request.param
    client = HttpClient()
    engine = engine_of(plug)
    async with engine.serve(tmp_path, kind) as deployment:
        try:
            connection = plugs.load("providers", plug).connect(deployment, client)
            yield Provider(deployment, connection, getattr(engine, "tell", dict))
        finally:
            await client.aclose()


@pytest.fixture
def embedder(provider: Provider) -> Provider:
    """A connection through a plug whose wire has embeddings."""
    return provider
