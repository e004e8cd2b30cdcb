"""Limits and budgets in front of a real engine: what it really used is what is settled."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import openai as sdk
import pytest
from openai import AsyncOpenAI

from tests.e2e.server import KEY, Server, wait_for
from tests.engine.engine import KEY as ENGINE_KEY
from tests.engine.engine import PATIENCE, Engine
from tests.engine.speech import CHAT, GREETING, HELLO, say, song

CONFIG = """
auth: {{api_keys: [{key}]}}
providers:
  - name: engine
    type: sglang
    base_url: {url}/v1
    api_key_env: PENSTOCK_ENGINE_API_KEY
    models: [{{name: tiny-chat, upstream: tiny}}]
prices: [{{provider: engine, input: 500, output: 1000}}]
"""


@pytest.fixture(scope="module")
def limited(engines: tuple[Engine, Engine], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gateway with limits, in front of the engine that answers."""
    config = CONFIG.format(key=KEY, url=engines[0].url)
    with Server(tmp_path_factory.mktemp("limited"), config, PENSTOCK_ENGINE_API_KEY=ENGINE_KEY) as server:
        yield server


def a_key(server: Server, **fields: object) -> tuple[str, str]:
    """A new key, and its id."""
    with server.client() as client:
        made = client.post("/api/v1/apikeys", json=fields).json()
    return made["api_key"], made["id"]


def spent(server: Server, key_id: str) -> float:
    """What a key has spent of its one budget, and reserved."""
    with server.client() as client:
        [window] = client.get(f"/api/v1/apikeys/{key_id}").json()["spending"]
    return float(window["spent"])


async def test_the_engines_own_count_is_paid(engine: Engine, limited: Server) -> None:
    key, key_id = a_key(limited, budget={"daily": 100}, limits={"tokens_per_minute": 8000})
    async with AsyncOpenAI(base_url=f"{limited.url}/v1", api_key=key, max_retries=0, timeout=PATIENCE) as client:
        plain = await client.chat.completions.create(model=CHAT, temperature=0, messages=say(HELLO))
        assert plain.choices[0].message.content == GREETING, "no bound was named, and the context is small"
        options: sdk.types.chat.ChatCompletionStreamOptionsParam = {"include_usage": True}
        stream = await client.chat.completions.create(
            model=CHAT, temperature=0, messages=say(HELLO), stream=True, stream_options=options
        )
        used = [plain.usage, *[chunk.usage async for chunk in stream if chunk.usage]]
    cost = sum(usage.prompt_tokens * 500 + usage.completion_tokens * 1000 for usage in used if usage) / 1e6
    assert len(used) == 2
    wait_for(lambda: spent(limited, key_id) == pytest.approx(cost, abs=1e-9), "both calls to be settled", 10)


async def test_a_left_stream_is_paid_as_far_as_it_came(engine: Engine, limited: Server) -> None:
    key, key_id = a_key(limited, budget={"total": 100}, limits={"concurrency": 1})
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=limited.url, headers=headers, timeout=PATIENCE) as client:
        async with client.stream("POST", "/v1/chat/completions", json=song(900, stream=True)) as response:
            lines = response.aiter_lines()
            while '"content":" la"' not in await anext(lines):
                pass
            held = spent(limited, key_id)
            assert (await client.post("/v1/chat/completions", json=song(1))).status_code == 429
        assert held > 0.9, "900 tokens and the prompt are reserved"
        wait_for(lambda: 0 < spent(limited, key_id) < held / 2, "the stream to be settled", 10)
        await engine.until_idle()
        assert (await client.post("/v1/chat/completions", json=song(1))).status_code == 200
