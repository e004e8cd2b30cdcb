"""How hosts are found: a name that nobody finds keeps nobody else from being found."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from penstock.errors import UpstreamTimeout, UpstreamUnavailable
from penstock.outbound import HttpClient, Response
from tests.wire import upstream as upstreams
from tests.wire.upstream import Upstream, answering


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with upstreams.serve(answering({"ok": True}, Connection="close")) as upstream:
        yield upstream


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    client = HttpClient()
    yield client
    await client.aclose()


async def get(client: HttpClient, upstream: Upstream, host: str, seconds: float = 5.0) -> Response:
    """Ask the upstream under the name of this host."""
    url = upstream.url.replace("127.0.0.1", host)
    deadline = asyncio.get_running_loop().time() + 5
    return await client.request("GET", url, deadline=deadline, connect_timeout=seconds)


class Lookups:
    """Stands in for the loop's resolver: hosts whose name begins with ``lost`` are looked for until ``found``."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.found = asyncio.Event()
        self.addresses = ["127.0.0.1"]
        self.failures = 0

    async def getaddrinfo(self, host: str, *_: Any, **__: Any) -> list[Any]:
        self.asked.append(host)
        if host.startswith("lost"):
            await self.found.wait()
        if self.failures:
            self.failures -= 1
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in self.addresses]


@pytest.fixture
async def lookups(monkeypatch: pytest.MonkeyPatch) -> Lookups:
    lookups = Lookups()
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", lookups.getaddrinfo)
    return lookups


async def test_a_name_that_nobody_finds_takes_one_lookup_whoever_asks_for_it(
    client: HttpClient, upstream: Upstream, lookups: Lookups
) -> None:
    for _ in range(2):
        asked = [get(client, upstream, "lost.example", 0.05) for _ in range(20)]
        for error in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(error, UpstreamTimeout)
    assert lookups.asked == ["lost.example"]
    assert (await get(client, upstream, "well.example")).status == 200
    lookups.found.set()
    assert (await get(client, upstream, "lost.example")).status == 200


async def test_a_name_is_looked_up_anew_for_each_connection(
    client: HttpClient, upstream: Upstream, lookups: Lookups
) -> None:
    for _ in range(2):
        await (await get(client, upstream, "well.example")).read()
    assert lookups.asked == ["well.example"] * 2


async def test_a_lookup_that_failed_is_tried_anew(client: HttpClient, upstream: Upstream, lookups: Lookups) -> None:
    lookups.failures = 2
    for _ in range(2):
        with pytest.raises(UpstreamUnavailable, match=r"well\.example cannot be resolved: unknown"):
            await get(client, upstream, "well.example")
    assert (await get(client, upstream, "well.example")).status == 200


async def test_an_address_that_takes_no_connection_is_followed_by_the_next(
    client: HttpClient, upstream: Upstream, lookups: Lookups
) -> None:
    lookups.addresses = ["127.0.0.9", "127.0.0.1"]
    assert (await get(client, upstream, "well.example")).status == 200


async def test_an_address_is_not_looked_up(client: HttpClient, upstream: Upstream, lookups: Lookups) -> None:
    assert (await get(client, upstream, "127.0.0.1")).status == 200
    assert not lookups.asked
