"""A provider on loopback that behaves as badly as a test's script wants: raw bytes, pauses, resets.

A script is a coroutine function that gets each ``Call`` as it arrives. Whatever it does not do is not done: no head is
sent for it, no stream is ended, no connection closed. It pauses by waiting for an event of the test's.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

STREAM = "text/event-stream; charset=utf-8"
DONE = b"data: [DONE]\n\n"
BOM = b"\xef\xbb\xbf"
PATIENCE = 10.0

Document = dict[str, Any]
Script = Callable[["Call"], Awaitable[None]]


def chunk(content: str | None = None, finish: str | None = None, *, model: str = "engine-1", **top: Any) -> Document:
    """A chunk of a chat completion as an engine sends it; ``top`` adds fields beside ``choices``."""
    delta = {} if content is None else {"role": "assistant", "content": content}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": model}
    return {**base, "choices": [choice], **top}


def usage_chunk(prompt: int = 7, completion: int = 2, **details: Any) -> Document:
    """The chunk in which an engine counts the tokens."""
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion, **details}
    return {**chunk(), "choices": [], "usage": usage}


def completion(content: str = "Hello there", *, model: str = "engine-1", **top: Any) -> Document:
    """A whole chat completion as an engine sends it."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": content},
        "logprobs": None,
        "finish_reason": "stop",
    }
    usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    base = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1700000000, "model": model}
    return {**base, "choices": [choice], "usage": usage, **top}


HELLO = (chunk("Hello"), chunk(" there"), chunk(finish="stop"), usage_chunk())
"""What a good upstream streams where a test does not care."""


def event(document: Any) -> bytes:
    """One SSE event, as compact as engines write it."""
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"


def streaming(*documents: Any) -> Script:
    """A script that answers with a whole, well-behaved stream."""

    async def script(call: Call) -> None:
        call.stream(*documents)

    return script


def pausing(go: asyncio.Event, *first: Any, then: Callable[[Call], object]) -> Script:
    """A script that streams some chunks, waits for ``go``, and goes on as it is told."""

    async def script(call: Call) -> None:
        call.begin()
        call.piece(b"".join(map(event, first)))
        await go.wait()
        then(call)

    return script


def answering(document: Any, status: int = 200, kind: str = "application/json", **headers: str) -> Script:
    """A script that answers at once and whole."""

    async def script(call: Call) -> None:
        call.answer(document, status, kind, **headers)

    return script


class Call:
    """One request that came, and the wire to answer on. ``gone`` is set, at ``gone_at``, when its client hangs up."""

    def __init__(self, wire: _Wire, head: bytes, body: bytes) -> None:
        self._wire = wire
        self.head = head
        self.body = body
        lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = lines[0].split(" ", 2)
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
        self.connection = wire.number
        self.over = asyncio.Event()

    @property
    def json(self) -> Any:
        """The request's body, parsed."""
        return json.loads(self.body)

    @property
    def gone(self) -> asyncio.Event:
        """Set once this call's connection is closed, whoever closed it."""
        return self._wire.gone

    @property
    def gone_at(self) -> float:
        """When that was, on the loop's clock."""
        return self._wire.gone_at

    def write(self, data: bytes) -> None:
        """Put raw bytes on the wire."""
        self._wire.transport.write(data)

    def begin(self, status: int = 200, kind: str = STREAM, **headers: str) -> None:
        """Send the head of an answer in HTTP's chunks."""
        more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        self.write(
            f"HTTP/1.1 {status} Whatever\r\nContent-Type: {kind}\r\n{more}Transfer-Encoding: chunked\r\n\r\n".encode()
        )

    def piece(self, data: bytes) -> None:
        """Send one of HTTP's chunks."""
        self.write(b"%x\r\n%b\r\n" % (len(data), data))

    def event(self, document: Any) -> None:
        """Send one event in a chunk of its own."""
        self.piece(event(document))

    def finish(self) -> None:
        """End an answer in HTTP's chunks; the connection stays open."""
        self.write(b"0\r\n\r\n")

    def answer(self, document: Any, status: int = 200, kind: str = "application/json", **headers: str) -> None:
        """Send a whole answer: a document, or bytes that call themselves one."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {status} Whatever\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
        self.write(head.encode() + body)

    def stream(self, *documents: Any) -> None:
        """Send a whole, well-behaved stream."""
        self.begin()
        self.piece(b"".join(map(event, documents)) + DONE)
        self.finish()

    async def drained(self) -> None:
        """Wait until what was written is on its way, or the connection is closed."""
        await self._wire.drained()

    async def stuck(self) -> None:
        """Wait until nobody takes what was written."""
        await self._wire.full.wait()

    async def sent(self) -> None:
        """Wait until the script has done all it does, and its client, in the same loop, has read it."""
        await self.over.wait()
        for _ in range(20):
            await self.drained()

    def close(self) -> None:
        """Hang up politely, after what was written."""
        self._wire.transport.close()

    def reset(self) -> None:
        """Hang up rudely: the other side gets a TCP reset."""
        transport = self._wire.transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


class _Wire(asyncio.Protocol):
    """One connection, from which requests are read one after the other."""

    transport: asyncio.Transport

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._buffer = b""
        self.number = 0
        self.gone = asyncio.Event()
        self.gone_at = 0.0
        self.full = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.number = self._upstream.meet(self)

    def pause_writing(self) -> None:
        self._writable.clear()
        self.full.set()

    def resume_writing(self) -> None:
        self._writable.set()

    async def drained(self) -> None:
        await asyncio.sleep(0)
        await self._writable.wait()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        if len(rest) >= length:
            self._buffer = rest[length:]
            self._upstream.serve(Call(self, head, rest[:length]))

    def connection_lost(self, _: Exception | None) -> None:
        self.gone_at = asyncio.get_running_loop().time()
        self.gone.set()
        self._writable.set()
        self._upstream.part(self)


class Upstream:
    """Answers each call by ``script``, and remembers every call."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.calls: list[Call] = []
        self.url = ""
        self._arrived = asyncio.Condition()
        self._open: set[_Wire] = set()
        self._met = 0
        self._running: list[asyncio.Task[None]] = []

    async def call(self, number: int = 0) -> Call:
        """The call with this number, waiting for it to come."""
        async with asyncio.timeout(PATIENCE), self._arrived:
            await self._arrived.wait_for(lambda: len(self.calls) > number)
        return self.calls[number]

    def meet(self, wire: _Wire) -> int:
        """A connection was made; answers its number."""
        self._open.add(wire)
        self._met += 1
        return self._met

    def part(self, wire: _Wire) -> None:
        """A connection was closed."""
        self._open.discard(wire)

    def serve(self, call: Call) -> None:
        """A call came."""
        self._running.append(asyncio.ensure_future(self._serve(call)))

    async def _serve(self, call: Call) -> None:
        async with self._arrived:
            self.calls.append(call)
            self._arrived.notify_all()
        try:
            await self.script(call)
        finally:
            call.over.set()

    async def close(self) -> None:
        """Cut what is open; raises what a script raised."""
        for task in self._running:
            if not task.done():
                task.cancel()
        ends = await asyncio.gather(*self._running, return_exceptions=True)
        for wire in list(self._open):
            wire.transport.abort()
            await wire.gone.wait()
        for end in ends:
            if isinstance(end, Exception):
                raise end


async def _unscripted(call: Call) -> None:
    raise AssertionError(f"nobody said how to answer {call.method} {call.target}")


@asynccontextmanager
async def serve(script: Script = _unscripted, port: int = 0) -> AsyncIterator[Upstream]:
    """Listen on this or a free port of loopback until the block ends."""
    upstream = Upstream(script)
    server = await asyncio.get_running_loop().create_server(lambda: _Wire(upstream), "127.0.0.1", port)
    upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield upstream
    finally:
        server.close()
        await upstream.close()
        await server.wait_closed()
