"""Where the laws of providers are tried on the plug ``openai``: a gateway whose model is simulated."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from penstock.schema.model import Deployment
from penstock.schema.secret import Secret
from tests.wire import gateway

KINDS = ("openai", "vllm")
"""One that is asked for what the caller wants, and one that is always asked for a stream."""


@asynccontextmanager
async def serve(folder: Path, kind: str) -> AsyncIterator[Deployment]:
    """A deployment that answers."""
    models = [{"name": "engine-1", "upstream": "echo"}]
    async with gateway.serve(folder, {"name": "engine", "type": "simulated", "models": models}) as engine:
        url, credential = f"{engine.url}/v1", Secret(gateway.KEY)
        yield Deployment("first/public-1", "public-1", "first", kind, "engine-1", url, credential)
