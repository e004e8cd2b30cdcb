"""A conversation that the real engine refuses because of its length is summed up by it, and answered.

What the tiny model says to more than one turn means nothing: this is about refusals, numbers and what the engine takes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.server import KEY, Server, wait_for
from tests.engine.conftest import CONFIG
from tests.engine.engine import KEY as ENGINE_KEY
from tests.engine.engine import PATIENCE, Engine
from tests.engine.speech import CHAT, CONTEXT_TOKENS

SECTION = "condensation: {truncation_threshold: 200, summary_max_tokens: 32, keep_recent: 2}\n"


def conversation(turns: int) -> list[dict[str, Any]]:
    """Many turns, and a question."""
    found: list[dict[str, Any]] = []
    for _ in range(turns):
        found += [{"role": "user", "content": "say kilo"}, {"role": "assistant", "content": "kilo"}]
    return [*found, {"role": "user", "content": "say kilo"}]


def is_main(outcome: dict[str, Any]) -> bool:
    """Whether it is the request's own, and no summary's."""
    return "summary" not in outcome["request_id"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_conversation_that_is_refused_is_condensed_by_the_engines_own_numbers(
    engines: tuple[Engine, Engine], tmp_path: Path, stream: bool
) -> None:
    config = CONFIG.format(key=KEY, chat=engines[0].url, embed=engines[1].url)
    messages = conversation(90)
    with (
        Server(tmp_path, config + SECTION, PENSTOCK_ENGINE_API_KEY=ENGINE_KEY) as server,
        httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {KEY}"}, timeout=PATIENCE) as client,
    ):
        body = {"model": CHAT, "messages": messages, "temperature": 0, "max_tokens": 8, "stream": stream}
        answer = client.post("/v1/chat/completions", json=body)
        main = wait_for(lambda: next(filter(is_main, server.outcomes()), None), "the ledger")
    assert answer.status_code == 200, answer.text
    pairs = [pair.split("=") for pair in answer.headers["x-penstock-condensed"].split(", ")]
    told = {name: int(value.removeprefix("?")) for name, value in pairs}
    assert told["tokens_before"] > CONTEXT_TOKENS > told["tokens_after"]
    assert main["marks"] == "condensed"
    assert 0.5 < told["tokens_after"] / main["prompt_tokens"] < 2, "as it counted afterwards"
    print(f"\nbefore {told['tokens_before']}, after {told['tokens_after']}, counted {main['prompt_tokens']}")
