"""Gateways with an alias, for tests of who is chosen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from tests.wire import gateway as gateways
from tests.wire.gateway import Gateway
from tests.wire.upstream import Upstream, answering, completion

EASY = "hey, how's it going?"
HARD = "Prove step by step that there are infinitely many primes congruent to 3 modulo 4."
SECRET = "Translate to French: my card is 4539 1488 0343 6467"
TIERS = {"small": ["little"], "large": ["big"]}
SAID = answering(completion())
Serve = Callable[..., AbstractAsyncContextManager[Gateway]]


def asked(prompt: str) -> dict[str, Any]:
    return {"model": "auto", "messages": [{"role": "user", "content": prompt}]}


def choosing(folder: Path, upstream: Upstream, second: Upstream) -> Serve:
    """A gateway whose ``near`` provider is local and whose ``far`` one is not; both have both models."""

    @asynccontextmanager
    async def serving(section: Any = None, limits: Any = gateways.UNLIMITED, **alias: Any) -> AsyncIterator[Gateway]:
        models = ["little", "big", "judge", "vectors"]
        providers = [
            {"name": "far", "type": "openai", "base_url": second.url, "models": models},
            {"name": "near", "type": "openai", "base_url": upstream.url, "models": models, "priority": 2},
        ]
        told = {"local": ["near"], "aliases": {"auto": {"tiers": TIERS, **alias}}, **(section or {})}
        sections = {"classification": told}
        async with gateways.serve(folder, *providers, sections=sections, limits=limits, proxy_info=True) as gateway:
            yield gateway

    return serving
