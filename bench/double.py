"""The upstream: an engine that answers at once, so that what is measured is the way to it.

``python -m bench.double PORT`` serves OpenAI's chat wire. The request's own field ``bench`` says how to stream:
``{"chunks": 200, "pace_ms": 5, "nulls": false}``; a pace of 0 writes as fast as it can, each chunk in a write of its
own, and ``nulls`` puts ``"usage": null`` into every chunk where usage was asked for, as OpenAI does.
"""

from __future__ import annotations

import asyncio
import json
import sys
from functools import cache
from typing import Any

import uvloop

MODEL = "bench-1"
USAGE = {"prompt_tokens": 12, "completion_tokens": 20, "total_tokens": 32}

_IDENTITY = {"id": "chatcmpl-bench", "created": 1_700_000_000, "model": MODEL}
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
_END = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def plain_answer() -> bytes:
    """The body of every plain answer."""
    message = {"role": "assistant", "content": "word " * 20}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return _json({**_IDENTITY, "object": "chat.completion", "choices": [choice], "usage": USAGE})


@cache
def events(count: int, nulls: bool = False) -> tuple[bytes, ...]:
    """The chunks of a stream as events, the last of them finished; without usage."""
    usage = {"usage": None} if nulls else {}
    made = []
    for number in range(count):
        finish = "stop" if number == count - 1 else None
        choice = {"index": 0, "delta": {"content": f"word{number} "}, "logprobs": None, "finish_reason": finish}
        chunk = {**_IDENTITY, "object": "chat.completion.chunk", "choices": [choice], **usage}
        made.append(b"data: " + _json(chunk) + b"\n\n")
    return tuple(made)


def framed(data: bytes) -> bytes:
    """One chunk of HTTP's chunked coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@cache
def _frames(count: int, usage: bool, nulls: bool) -> tuple[bytes, ...]:
    made = [framed(event) for event in events(count, nulls and usage)]
    if usage:
        last = {**_IDENTITY, "object": "chat.completion.chunk", "choices": [], "usage": USAGE}
        made.append(framed(b"data: " + _json(last) + b"\n\n"))
    return tuple(made)


_BODY = plain_answer()
_PLAIN = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(_BODY), _BODY)


class Double(asyncio.Protocol):
    """One connection; requests come one after the other."""

    def __init__(self) -> None:
        self._held = b""
        self._streaming: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        if self._streaming is not None:
            self._streaming.cancel()

    def data_received(self, data: bytes) -> None:
        self._held += data
        while (body := self._whole_request()) is not None:
            if b'"stream":true' in body or b'"stream": true' in body:
                self._streaming = asyncio.ensure_future(self._stream(json.loads(body)))
            else:
                self._transport.write(_PLAIN)

    def _whole_request(self) -> bytes | None:
        """The body of the next request that has come whole."""
        end = self._held.find(b"\r\n\r\n")
        if end < 0:
            return None
        _, _, after = self._held[:end].lower().partition(b"content-length:")
        length = int(after.split(b"\r\n", 1)[0]) if after else 0
        start = end + 4
        if len(self._held) < start + length:
            return None
        body, self._held = self._held[start : start + length], self._held[start + length :]
        return body

    async def _stream(self, request: dict[str, Any]) -> None:
        told = request["bench"]
        usage = bool((request.get("stream_options") or {}).get("include_usage"))
        pause = told["pace_ms"] / 1000
        self._transport.write(_HEAD)
        for frame in _frames(told["chunks"], usage, told["nulls"]):
            self._transport.write(frame)
            await asyncio.sleep(pause)
        self._transport.write(_END)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Double, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
