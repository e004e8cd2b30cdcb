"""An engine that is told to end finishes what it began; after that, callers get a clear error. Runs last."""

from __future__ import annotations

import json

import httpx
import openai as sdk
import pytest
from openai import AsyncOpenAI

from tests.engine.engine import PATIENCE, Engine
from tests.engine.speech import CHAT, EMBED, HELLO, say, song

SONG_TOKENS = 200


async def test_a_drained_engine_finishes_its_stream_and_is_then_reported_as_gone(
    http: httpx.AsyncClient, openai: AsyncOpenAI, engine: Engine
) -> None:
    async with http.stream("POST", "/v1/chat/completions", json=song(SONG_TOKENS, stream=True)) as response:
        lines = response.aiter_lines()
        while '"content":" la"' not in await anext(lines):
            pass
        engine.drain()
        payloads = [line.removeprefix("data: ") async for line in lines if line.startswith("data: ")]
    if payloads[-1] == "[DONE]":
        assert json.loads(payloads[-2])["choices"][0]["finish_reason"] == "length"
    else:
        error = json.loads(payloads[-1])["error"]
        assert error["message"]
        assert error["type"]
        assert error["code"]
    assert engine.process.wait(PATIENCE) is not None

    for stream in (False, True):
        with pytest.raises(sdk.InternalServerError) as refused:
            await openai.chat.completions.create(model=CHAT, messages=say(HELLO), stream=stream)
        assert refused.value.status_code == 502
        assert refused.value.type
        assert refused.value.code
        assert "cannot be reached" in refused.value.message
        assert f":{engine.port}" not in refused.value.message, "callers need not know where engines are"
    assert (await http.get("/health")).status_code == 200
    assert (await openai.embeddings.create(model=EMBED, input="alpha")).data
