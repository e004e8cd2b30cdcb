"""Tasks on a real engine: their tokens as it makes them, their time limit, and what stops it."""

from __future__ import annotations

import pytest

from penstock.client import LLMClient, TaskFailed
from tests.e2e.server import KEY, Server
from tests.engine.engine import Engine


async def test_a_task_says_what_its_stream_said(engine: Engine, gateway: Server) -> None:
    client = LLMClient(gateway.url, KEY)
    heard: list[str] = []
    done = client.generate(
        "repeat: kilo alpha tango",
        24,
        0.0,
        model="tiny-chat",
        on_progress=lambda told: heard.append(told.get("token", "")),
    )
    assert done["result"] == "".join(heard)
    assert done["metrics"]["completion_tokens"] > 1
    assert len([token for token in heard if token]) > 1
    assert done["metrics"]["tokens_per_second"] > 0


async def test_a_cancelled_task_frees_the_engine(engine: Engine, gateway: Server) -> None:
    client = LLMClient(gateway.url, KEY)
    task = client.generate("count", 900, 0.0, wait=False, model="tiny-chat", ignore_eos=True)
    events = client.stream(task["task_id"])
    assert any("token" in event for event in events)
    client.cancel(task["task_id"])
    await engine.until_idle()
    with pytest.raises(TaskFailed, match="cancelled") as ended:
        list(events)
    assert ended.value.error_type == "JobCancelled"
