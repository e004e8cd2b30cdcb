"""How connections to one provider are kept: so many, so long, and no silence without end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from penstock.errors import UpstreamBusy, UpstreamTimeout
from penstock.outbound import HttpClient, Response, Target
from penstock.schema.http_section import Wire
from tests.unit.test_outbound import soon
from tests.wire import upstream as upstreams
from tests.wire.upstream import Upstream, answering


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with upstreams.serve(answering({"ok": True})) as upstream:
        yield upstream


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    client = HttpClient()
    yield client
    await client.aclose()


async def send(client: HttpClient, upstream: Upstream, wire: Wire) -> Response:
    return await client.send(Target("GET", upstream.url, (), wire), b"", deadline=soon(), connect_timeout=0.2)


async def test_no_more_connections_lie_idle_than_may(client: HttpClient, upstream: Upstream) -> None:
    responses = [await send(client, upstream, Wire(idle=1)) for _ in range(3)]
    for response in responses:
        await response.read()
    for _ in range(2):
        await (await send(client, upstream, Wire(idle=1))).read()
    assert upstream.calls[3].connection == upstream.calls[4].connection == 1


async def test_no_more_requests_are_under_way_than_may_be_and_the_next_one_waits_its_turn(
    client: HttpClient, upstream: Upstream
) -> None:
    wire = Wire("first", most=2)
    one, two = await send(client, upstream, wire), await send(client, upstream, wire)
    with pytest.raises(UpstreamBusy, match="2 requests are under way, as many as may be"):
        await send(client, upstream, wire)
    waiting = asyncio.ensure_future(send(client, upstream, wire))
    await one.read()
    await (await waiting).read()
    await two.read()
    assert (await (await send(client, upstream, wire)).read()) == b'{"ok": true}'


async def test_a_server_that_falls_silent_is_left_before_the_deadline(client: HttpClient) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        target = Target("GET", f"http://127.0.0.1:{port}/", (), Wire(silence=0.05))
        response = await client.send(target, b"", deadline=soon())
        with pytest.raises(UpstreamTimeout, match=r"said nothing for 0\.05 s"):
            await response.read()
