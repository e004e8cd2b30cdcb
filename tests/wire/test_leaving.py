"""When the client leaves, the upstream call is closed at once, and what was produced is settled."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.wire import gateway as gateways
from tests.wire.gateway import CHAT, KEY, MODEL, Gateway, bounded
from tests.wire.upstream import Call, Script, Upstream, chunk, event, streaming

AT_ONCE = 0.1

pytestmark = pytest.mark.alone


class Visitor:
    """A client on a bare socket, that leaves when it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def ask(self, **body: Any) -> None:
        """Send a chat request."""
        document = json.dumps({"model": MODEL, **CHAT, **body}).encode()
        self.writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: test\r\nauthorization: Bearer %b\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (KEY.encode(), len(document), document)
        )

    def leave(self) -> float:
        """Hang up; answers when that was."""
        self.writer.transport.abort()
        return asyncio.get_running_loop().time()


@asynccontextmanager
async def visiting(gateway: Gateway) -> AsyncIterator[Visitor]:
    """A client's connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(gateway.url).port)
    try:
        yield Visitor(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def closed_within(call: Call, left_at: float) -> float:
    """Seconds from the client's leaving to the upstream's seeing it."""
    async with asyncio.timeout(5):
        await call.gone.wait()
    return call.gone_at - left_at


async def say_nothing(call: Call) -> None:
    """An upstream that is still thinking."""


def begin_with(data: bytes, kind: str) -> Script:
    """An upstream that stops in the middle of its answer."""

    async def script(call: Call) -> None:
        call.begin(kind=kind)
        call.piece(data)

    return script


BEGUN = event(chunk("Hello")) + event(chunk(" there"))


async def cancelled(gateway: Gateway) -> None:
    """Check what the ledger says of a request whose client left."""
    outcome = await gateway.outcome()
    assert (outcome.ended, outcome.status, outcome.code) == ("cancelled", 499, "client_closed_request")


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
async def test_a_client_leaves_before_the_first_byte(gateway: Gateway, upstream: Upstream, stream: bool) -> None:
    upstream.script = say_nothing
    async with visiting(gateway) as visitor:
        visitor.ask(stream=stream)
        call = await upstream.call()
        assert await closed_within(call, visitor.leave()) < AT_ONCE
    await cancelled(gateway)


async def test_a_client_leaves_in_mid_stream(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = begin_with(BEGUN, "text/event-stream")
    async with visiting(gateway) as visitor:
        visitor.ask(stream=True)
        await visitor.reader.readuntil(b" there")
        assert await closed_within(await upstream.call(), visitor.leave()) < AT_ONCE
    await cancelled(gateway)


async def test_what_was_streamed_before_the_client_left_is_settled(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = begin_with(BEGUN, "text/event-stream")
    async with visiting(gateway) as visitor:
        visitor.ask(stream=True)
        await visitor.reader.readuntil(b" there")
        visitor.leave()
        await (await upstream.call()).gone.wait()
    outcome = await gateway.outcome()
    assert outcome.usage.completion_tokens == 2
    assert not outcome.usage_reported, "an estimate was passed off as the engine's own count"
    assert outcome.ttft is not None


async def test_a_client_leaves_in_the_middle_of_a_plain_answer(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = begin_with(b'{"id": "chatcmpl-1", "choices": [', "application/json")
    async with visiting(gateway) as visitor:
        visitor.ask()
        call = await upstream.call()
        await call.sent()
        assert await closed_within(call, visitor.leave()) < AT_ONCE
    await cancelled(gateway)


async def test_a_client_leaves_in_the_middle_of_a_folded_answer(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script = begin_with(BEGUN, "text/event-stream")
    async with gateways.serve(tmp_path, gateways.provider(upstream.url, type="vllm")) as gateway:
        async with visiting(gateway) as visitor:
            visitor.ask()
            call = await upstream.call()
            await call.sent()
            assert await closed_within(call, visitor.leave()) < AT_ONCE
        await cancelled(gateway)
        assert (await gateway.outcome()).usage.completion_tokens == 2, "what was produced is not settled"


@bounded("gateway", ping_interval=0.02)
async def test_a_client_leaves_while_it_is_pinged(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = say_nothing
    async with visiting(gateway) as visitor:
        visitor.ask(stream=True)
        await visitor.reader.readuntil(b": ping")
        assert await closed_within(await upstream.call(), visitor.leave()) < AT_ONCE
    await cancelled(gateway)


async def test_a_client_that_stops_reading_and_leaves_frees_the_upstream(gateway: Gateway, upstream: Upstream) -> None:
    async def script(call: Call) -> None:
        call.begin()
        while not call.gone.is_set():
            call.event(chunk("x" * 60_000))
            await call.drained()

    upstream.script = script
    async with visiting(gateway) as visitor:
        visitor.ask(stream=True)
        await visitor.reader.readuntil(b"xxxx")
        call = await upstream.call()
        await call.stuck()
        assert await closed_within(call, visitor.leave()) < AT_ONCE
    await cancelled(gateway)


async def test_a_client_that_leaves_does_not_disturb_the_next(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = say_nothing
    async with visiting(gateway) as visitor:
        visitor.ask(stream=True)
        await upstream.call()
        visitor.leave()
    upstream.script = streaming(chunk("Hello"), chunk(finish="stop"))
    assert (await gateway.stream()).text == "Hello"
    await gateway.outcomes(2)
