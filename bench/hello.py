"""The bare reference: what uvicorn costs by itself. Reads the request and answers what the upstream would, from memory.

``uvicorn bench.hello:app``; nothing is parsed but the request's own field ``bench``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from bench.double import events, plain_answer

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_BODY = plain_answer()
_PLAIN = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_BODY))]
_STREAM = [(b"content-type", b"text/event-stream; charset=utf-8")]


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """The ASGI application; the server runs it with its lifespan off."""
    message = await receive()
    body = message["body"]
    while message.get("more_body"):
        message = await receive()
        body += message["body"]
    if b'"stream":true' not in body:
        await send({"type": "http.response.start", "status": 200, "headers": _PLAIN})
        await send({"type": "http.response.body", "body": _BODY})
        return
    told = json.loads(body)["bench"]
    pause = told["pace_ms"] / 1000
    await send({"type": "http.response.start", "status": 200, "headers": _STREAM})
    for event in events(told["chunks"]):
        await send({"type": "http.response.body", "body": event, "more_body": True})
        await asyncio.sleep(pause)
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
