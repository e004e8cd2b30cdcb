"""SGLang ends an answer that it gives up with a finish reason of its own; callers must see a failure, not an answer."""

from __future__ import annotations

import asyncio
import json

import httpx
import openai as sdk
import pytest
from openai import AsyncOpenAI

from tests.engine.engine import Engine
from tests.engine.speech import song


async def test_a_stream_that_the_engine_gives_up_ends_with_a_typed_error(
    http: httpx.AsyncClient, engine: Engine
) -> None:
    async with http.stream("POST", "/v1/chat/completions", json=song(stream=True)) as response:
        lines = response.aiter_lines()
        while '"content":" la"' not in await anext(lines):
            pass
        await engine.abort()
        payloads = [line.removeprefix("data: ") async for line in lines if line.startswith("data: ")]
    assert "[DONE]" not in payloads
    error = json.loads(payloads[-1])["error"]
    assert error["message"]
    assert error["type"]
    assert error["code"]


async def test_a_plain_answer_that_the_engine_gives_up_is_an_error(openai: AsyncOpenAI, engine: Engine) -> None:
    call = asyncio.create_task(openai.chat.completions.create(**song()))
    await engine.until_singing()
    await engine.abort()
    with pytest.raises(sdk.InternalServerError) as failed:
        await call
    assert failed.value.code
