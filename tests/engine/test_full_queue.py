"""An engine whose queue is full is busy, not broken: callers are told so, and when to come again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import openai as sdk
import pytest
from openai import AsyncOpenAI

from tests.engine.engine import Engine
from tests.engine.speech import CHAT, GREETING, HELLO, say, song


@pytest.fixture
async def crowd(engine: Engine, http: httpx.AsyncClient) -> AsyncIterator[list[asyncio.Task[httpx.Response]]]:
    """One song that the engine sings and two that wait; all leave when the test ends."""
    songs: list[asyncio.Task[httpx.Response]] = []
    try:
        for count in (1, 2, 3):
            songs.append(asyncio.create_task(http.post("/v1/chat/completions", json=song(stream=True))))
            await engine.until_holds(count)
        yield songs
    finally:
        for one in songs:
            one.cancel()
        await asyncio.gather(*songs, return_exceptions=True)


@pytest.mark.usefixtures("crowd")
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_a_full_queue_is_a_clear_error_before_anything_is_sent(openai: AsyncOpenAI, stream: bool) -> None:
    with pytest.raises((sdk.RateLimitError, sdk.InternalServerError), match="queue is full") as refused:
        await openai.chat.completions.create(model=CHAT, messages=say(HELLO), stream=stream)
    assert refused.value.status_code in (429, 503)
    assert int(refused.value.response.headers["retry-after"]) >= 1
    assert refused.value.code
    assert refused.value.type


async def test_the_engine_is_used_again_as_soon_as_there_is_room(
    openai: AsyncOpenAI, engine: Engine, crowd: list[asyncio.Task[httpx.Response]]
) -> None:
    for _ in range(5):
        with pytest.raises((sdk.RateLimitError, sdk.InternalServerError)):
            await openai.chat.completions.create(model=CHAT, messages=say(HELLO))
    for one in crowd:
        one.cancel()
    await engine.until_idle()
    answer = await openai.chat.completions.create(model=CHAT, temperature=0, messages=say(HELLO))
    assert answer.choices[0].message.content == GREETING


async def test_a_call_that_waits_in_the_queue_is_answered(openai: AsyncOpenAI, engine: Engine) -> None:
    singing = asyncio.create_task(openai.chat.completions.create(**song(tokens=200)))
    await engine.until_singing()
    answer = await openai.chat.completions.create(model=CHAT, temperature=0, messages=say(HELLO))
    assert answer.choices[0].message.content == GREETING
    assert (await singing).choices[0].finish_reason == "length"
