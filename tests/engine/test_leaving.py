"""A caller who leaves frees the engine at once, and what was produced until then is in the ledger."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from tests.e2e.server import Server, wait_for
from tests.engine.engine import Engine
from tests.engine.speech import song

AT_ONCE = 1.0
SONG_TOKENS = 900


def next_outcome(gateway: Server, before: int) -> dict[str, Any]:
    """What the ledger says of the request that came after so many others."""
    return wait_for(lambda: gateway.outcomes()[before:], "the request to be in the ledger")[0]


async def test_leaving_a_stream_frees_the_engine(http: httpx.AsyncClient, engine: Engine, gateway: Server) -> None:
    before = len(gateway.outcomes())
    async with http.stream("POST", "/v1/chat/completions", json=song(SONG_TOKENS, stream=True)) as response:
        lines = response.aiter_lines()
        while '"content":" la"' not in await anext(lines):
            pass
        await engine.until_singing()
    assert await engine.until_idle() < AT_ONCE
    outcome = next_outcome(gateway, before)
    assert outcome["ended"] == "cancelled"
    assert 0 < outcome["completion_tokens"] < SONG_TOKENS


async def test_leaving_a_plain_call_frees_the_engine(http: httpx.AsyncClient, engine: Engine, gateway: Server) -> None:
    before = len(gateway.outcomes())
    call = asyncio.create_task(http.post("/v1/chat/completions", json=song(SONG_TOKENS)))
    await engine.until_singing()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert await engine.until_idle() < AT_ONCE
    outcome = next_outcome(gateway, before)
    assert outcome["ended"] == "cancelled"
    assert 0 < outcome["completion_tokens"] < SONG_TOKENS
