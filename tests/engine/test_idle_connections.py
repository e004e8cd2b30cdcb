"""SGLang closes a connection that was idle for five seconds; no caller may notice."""

from __future__ import annotations

import asyncio

from openai import AsyncOpenAI

from tests.engine.engine import PATIENCE, Engine
from tests.engine.speech import CHAT, GREETING, HELLO, say


async def test_a_call_after_the_engine_closed_its_idle_connections_succeeds(
    openai: AsyncOpenAI, engine: Engine
) -> None:
    async def ask() -> str | None:
        answer = await openai.chat.completions.create(model=CHAT, temperature=0, messages=say(HELLO))
        return answer.choices[0].message.content

    assert await ask() == GREETING
    reader, writer = await asyncio.open_connection("127.0.0.1", engine.port)
    writer.write(b"GET /ready HTTP/1.1\r\nhost: engine\r\n\r\n")
    async with asyncio.timeout(PATIENCE):
        assert (await reader.read()).startswith(b"HTTP/1.1 200"), "the engine did not answer before it closed"
    writer.close()
    assert await ask() == GREETING
