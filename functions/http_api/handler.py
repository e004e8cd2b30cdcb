"""The door for buffered calls: API Gateway's proxy events, through Mangum, into the one ASGI application."""

from __future__ import annotations

import asyncio
from typing import Any

from mangum import Mangum

from penstock.asgi import app

# One loop for the life of the instance: a connection opened by one invocation serves the next.
asyncio.set_event_loop(asyncio.new_event_loop())


async def mounted(scope: Any, receive: Any, send: Any) -> None:
    """The application as seen through the stage's path, so that links in /docs lead back through the gateway."""
    event = scope["aws.event"]
    public = event["requestContext"].get("path") or ""
    root_path = public.removesuffix(event["path"]) if public.endswith(event["path"]) else ""
    await app({**scope, "root_path": root_path}, receive, send)


# The application builds itself at its first request; Mangum would start and stop it around each one.
handler = Mangum(mounted, lifespan="off")
