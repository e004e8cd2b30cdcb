"""Where the laws of providers are tried on the plug ``simulated``: it is its own engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from penstock.schema.model import Deployment

KINDS = ("simulated",)


@asynccontextmanager
async def serve(folder: Path, kind: str) -> AsyncIterator[Deployment]:
    """A deployment that answers."""
    yield Deployment("first/public-1", "public-1", "first", kind, "engine-1", "")
