"""Condensation as the proxy's document has it, over HTTP on both stores, with a model that has a real limit."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.contract.conftest import Serve
from tests.e2e.server import Server
from tests.wire import upstream as upstreams
from tests.wire.narrow import conversation, narrow
from tests.wire.upstream import Upstream

SECTION = """\
condensation:
  enabled: true
  truncation_threshold: 2000
  summary_max_tokens: 512
  cache_size: 1000
  cache_ttl: 3600
  cache_persist: false
  error_patterns:
    - "context_length_exceeded"
    - "token_limit_exceeded"
"""
CONFIG = """\
limits: {{enabled: false}}
providers:
  - {{name: narrow, type: openai, base_url: "{url}", models: [small]}}
"""
KEY = {"authorization": "Bearer test-key-123"}
WINDOW = 4000

pytestmark = pytest.mark.timeout(180)


@contextmanager
def running(window: int) -> Iterator[Upstream]:
    """The narrow model in a thread of its own."""
    loop, found, over = asyncio.new_event_loop(), [], threading.Event()
    ready = threading.Event()

    async def run() -> None:
        async with upstreams.serve(narrow(window)) as upstream:
            found.append(upstream)
            ready.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    ready.wait(30)
    try:
        yield found[0]
    finally:
        over.set()
        thread.join()
        loop.close()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with running(WINDOW) as upstream:
        yield upstream


def ask(server: Server, messages: list[dict[str, Any]], **fields: Any) -> httpx.Response:
    body = {"model": "small", "messages": messages, **fields}
    return httpx.post(f"{server.url}/v1/chat/completions", headers=KEY, json=body, verify=False, timeout=60)


@pytest.mark.row("P9")
def test_the_documents_section_has_long_conversations_answered(serve: Serve, upstream: Upstream) -> None:
    server = serve(CONFIG.format(url=upstream.url) + SECTION)
    whole = ask(server, conversation(80))
    assert whole.status_code == 200, whole.text
    assert whole.json()["choices"][0]["message"]["content"] == "c0"
    told = whole.json()["_proxy_info"]["condensed"]
    assert told["tokens_before"] > WINDOW > told["tokens_after"]
    assert "messages_before=162" in whole.headers["x-penstock-condensed"]
    stream = ask(server, conversation(80, "What is the code of n7?"), stream=True)
    assert '"content":"c7"' in stream.text.replace(" ", "")
    assert stream.text.endswith("data: [DONE]\n\n")
    assert "cached=?1" in stream.headers["x-penstock-condensed"]


@pytest.mark.row("P9")
def test_calls_of_tools_and_their_results_stay_together(serve: Serve, upstream: Upstream) -> None:
    server = serve(CONFIG.format(url=upstream.url) + SECTION)
    messages: list[dict[str, Any]] = [{"role": "user", "content": "What is the code of n0?"}]
    for number in range(60):
        call = {"id": f"call_{number}", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        text = f"The code of n{number} is c{number}. " + "more " * 50
        messages.append({"role": "tool", "tool_call_id": call["id"], "content": text})
    answer = ask(server, messages)
    assert answer.json()["choices"][0]["message"]["content"] == "c0"
    sent = upstream.calls[-1].json["messages"]
    calls = [call["id"] for message in sent for call in message.get("tool_calls", ())]
    assert calls
    assert calls == [message["tool_call_id"] for message in sent if message["role"] == "tool"]


@pytest.mark.row("P9")
def test_a_summary_that_persists_is_known_to_another_process(serve: Serve, upstream: Upstream) -> None:
    config = CONFIG.format(url=upstream.url) + SECTION.replace("cache_persist: false", "cache_persist: true")
    first, second = serve(config), serve(config)
    assert ask(first, conversation(80)).json()["_proxy_info"]["condensed"]["cached"] is False
    assert ask(second, conversation(80)).json()["_proxy_info"]["condensed"]["cached"] is True


@pytest.mark.row("P9")
def test_without_the_section_the_refusal_is_told(serve: Serve, upstream: Upstream) -> None:
    answer = ask(serve(CONFIG.format(url=upstream.url)), conversation(80))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert json.loads(upstream.calls[-1].body)["messages"] == conversation(80)
