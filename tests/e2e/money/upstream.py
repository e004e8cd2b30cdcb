"""The upstream of the fuzz: an engine that knows each call by its number, and writes down what it did for it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from tests.e2e.money.calls import BUSY, CUT, ERROR, LEAVE, SILENT, STALL, Call

IDENTITY = {"id": "chatcmpl-1", "created": 1_700_000_000, "model": "engine-1"}
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


class Gone(Exception):
    """The gateway has closed the connection."""


class Upstream:
    """Answers the calls of ``calls`` as each of them says."""

    def __init__(self, calls: Mapping[int, Call]) -> None:
        self._calls = calls
        self._open: set[asyncio.Task[None]] = set()

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection."""
        self._open.add(asyncio.ensure_future(self.answer(reader, writer)))

    async def close(self) -> None:
        """Let go of every connection."""
        for task in self._open:
            task.cancel()
        for result in await asyncio.gather(*self._open, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, request after request."""
        try:
            while True:
                await self._serve(reader, writer)
        except (Gone, OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        document = json.loads(await reader.readexactly(int(fields["content-length"])))
        call = self._calls[int(document["messages"][0]["content"].split()[0])]
        call.arrivals.append(time.time_ns())
        call.request_id = fields["x-request-id"]
        call.arrived.set()
        try:
            await _Work(call, reader, writer).do(document["stream"])
        finally:
            call.ended = call.ended or time.time_ns()


class _Work:
    """What is done for one call."""

    def __init__(self, call: Call, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._call = call
        self._reader = reader
        self._writer = writer

    async def do(self, stream: bool) -> None:
        call = self._call
        if call.behaviour in (ERROR, BUSY):
            document = {"error": {"message": "not now", "type": "server_error", "code": None}}
            self._write_plain(500 if call.behaviour == ERROR else 429, document)
        elif stream:
            await self._stream()
        else:
            await self._plain()

    async def _plain(self) -> None:
        """Work to the end, also when nobody waits for it any more."""
        call = self._call
        if call.behaviour == CUT:
            raise Gone
        gone = False
        try:
            await self._pause(call.pace * call.tokens)
            if call.behaviour in (LEAVE, SILENT):
                await self._leaving()
        except Gone:
            gone = True
        call.produced += call.tokens
        if gone:
            raise Gone
        message = {"role": "assistant", "content": "word " * call.tokens}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        document = {**IDENTITY, "object": "chat.completion", "choices": [choice], "usage": self._usage()}
        self._write_plain(200, document)

    async def _stream(self) -> None:
        call = self._call
        self._writer.write(STREAM)
        for number in range(call.tokens):
            if number == call.part and call.behaviour in (STALL, SILENT):
                await self._leaving()
            if number == call.part and call.behaviour == CUT:
                raise Gone
            await self._pause(call.pace)
            call.produced += 1
            delta = {"role": "assistant", "content": f"word{number} "}
            self._event(choices=[{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}])
        self._event(choices=[{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}])
        self._event(choices=[], usage=self._usage())
        call.ended = time.time_ns()
        self._writer.write(END)

    def _usage(self) -> dict[str, int]:
        call = self._call
        total = call.prompt + call.produced
        return {"prompt_tokens": call.prompt, "completion_tokens": call.produced, "total_tokens": total}

    def _event(self, **fields: Any) -> None:
        if self._writer.transport.is_closing():
            raise Gone
        data = b"data: " + json.dumps({**IDENTITY, "object": "chat.completion.chunk", **fields}).encode() + b"\n\n"
        self._writer.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _write_plain(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        head = f"HTTP/1.1 {status} Word\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self._call.ended = time.time_ns()
        self._writer.write(head.encode() + body)

    async def _leaving(self) -> None:
        """Wait until the gateway leaves."""
        assert await self._reader.read(1) == b"", "a gateway sent more before it had its answer"
        raise Gone

    async def _pause(self, seconds: float) -> None:
        if seconds:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._leaving(), seconds)


@asynccontextmanager
async def upstream(calls: Mapping[int, Call]) -> AsyncIterator[str]:
    """An upstream on a free port; its address."""
    engine = Upstream(calls)
    async with await asyncio.start_server(engine.connected, "127.0.0.1", 0, backlog=1024) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        await engine.close()
