"""Aliases in front of real engines: one answers, one makes the vectors that examples are compared by, one judges."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from tests.e2e.server import KEY, Server, wait_for
from tests.engine.conftest import CONFIG
from tests.engine.engine import KEY as ENGINE_KEY
from tests.engine.engine import PATIENCE, Engine
from tests.engine.speech import CHAT, EMBED

SECTION = f"""
  - {{name: vendor, type: simulated, models: [large]}}
classification:
  local: [engine, embedder]
  aliases:
    auto: {{tiers: {{small: [{CHAT}], large: [large, {CHAT}]}}}}
    near:
      classifier: examples
      examples: {{model: {EMBED}, nearest: 1, prompts: {{small: [say kilo], large: [prove the theorem]}}}}
      tiers: {{small: [{CHAT}], large: [large]}}
    judged:
      classifier: judge
      judge: {{model: {CHAT}, timeout: 60}}
      tiers: {{small: [{CHAT}], large: [large]}}
"""
HARD = "Prove that the square root of two is irrational."


@pytest.fixture
def server(engines: tuple[Engine, Engine], tmp_path: Path) -> Iterator[Server]:
    config = CONFIG.format(key=KEY, chat=engines[0].url, embed=engines[1].url)
    with Server(tmp_path, config + SECTION, PENSTOCK_ENGINE_API_KEY=ENGINE_KEY) as server:
        yield server


def ask(server: Server, model: str, prompt: str) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": 8, "temperature": 0}
    headers = {"authorization": f"Bearer {KEY}"}
    return httpx.post(f"{server.url}/v1/chat/completions", json=body, headers=headers, timeout=PATIENCE)


def test_easy_prompts_and_sensitive_ones_are_answered_by_the_engine(server: Server) -> None:
    easy, hard = ask(server, "auto", "say kilo"), ask(server, "auto", HARD)
    secret = ask(server, "auto", f"{HARD} My card is 4539 1488 0343 6467")
    told = [answer.headers["x-penstock-provider"] for answer in (easy, hard, secret)]
    assert told == ["engine", "vendor", "engine"]
    assert easy.json()["choices"][0]["message"]["content"].startswith("kilo")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as client:
        messages = [{"role": "user", "content": "say kilo"}]
        chunks = list(client.chat.completions.create(model="auto", messages=messages, stream=True, max_tokens=8))
    assert {chunk.model for chunk in chunks} == {CHAT}


def test_vectors_of_the_engine_tell_which_example_is_near(server: Server) -> None:
    assert ask(server, "near", "say kilo").json()["model"] == CHAT
    assert ask(server, "near", "prove the theorem").json()["model"] == "large"


def test_the_engine_holds_a_judge_to_the_names_of_the_tiers(server: Server) -> None:
    answer = ask(server, "judged", "say kilo")
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] in (CHAT, "large")
    kept = wait_for(lambda: len(found := server.outcomes()) == 2 and found, "the ledger")
    assert any(outcome["request_id"].endswith(".judge") for outcome in kept)
