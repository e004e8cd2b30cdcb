"""What condensing does to long conversations: tokens before and after, and whether the answer knows what was told.

The model is a double with a real limit (tests/wire/narrow.py): it counts, refuses what is too long, answers from what
it has read and from nothing else, and sums up by repeating facts, as many as its bound lets it. So this tells what
reaches a model, not how well one writes. Beside it: what a client gets that sends the last messages alone.
``python -m bench.condensation``
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

from tests.wire import gateway as gateways
from tests.wire import upstream as upstreams
from tests.wire.gateway import Gateway
from tests.wire.narrow import conversation, narrow, tokens

WINDOW = 8000
TURNS = (80, 150, 300, 600)
ASKED = 20
"""Facts asked for in each conversation, evenly from the first one told to the last."""
SECTION = {"truncation_threshold": 2000, "summary_max_tokens": 1000}
ROW = "{:>8} {:>9} {:>9} {:>9} {:>7} {:>7} {:>9} {:>9}"


def cut(messages: list[dict[str, Any]], window: int) -> list[dict[str, Any]]:
    """The instructions and as many of the last messages as fit."""
    kept: list[dict[str, Any]] = []
    for message in reversed(messages[1:]):
        if tokens([messages[0], message, *kept]) > window:
            break
        kept.insert(0, message)
    return [messages[0], *kept]


async def ask(gateway: Gateway, messages: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """The answer, and what became of the conversation."""
    document = json.loads((await gateway.plain(messages=messages)).body)
    return document["choices"][0]["message"]["content"], document["_proxy_info"].get("condensed", {})


async def measure(gateway: Gateway, upstream: upstreams.Upstream, turns: int) -> None:
    """One line of the table."""
    known = lost = 0
    told: list[dict[str, Any]] = []
    calls = len(upstream.calls)
    for number in [turns * each // ASKED for each in range(ASKED)]:
        messages = conversation(turns, f"What is the code of n{number}?")
        answer, condensed = await ask(gateway, messages)
        known += answer == f"c{number}"
        told.append(condensed)
        answer, _ = await ask(gateway, cut(messages, WINDOW))
        lost += answer == f"c{number}"
    summaries = sum(b"<conversation>" in call.body for call in upstream.calls[calls:])
    before = round(mean(each["tokens_before"] for each in told))
    after = round(mean(each["tokens_after"] for each in told))
    print(
        ROW.format(
            *(turns, before, after, f"{after / before:.1%}", f"{known}/{ASKED}", f"{lost}/{ASKED}", summaries),
            sum(each["cached"] for each in told),
        )
    )


async def grow(gateway: Gateway, upstream: upstreams.Upstream, first: int, last: int) -> None:
    """A conversation that goes on, a turn at a time."""
    calls, known = len(upstream.calls), 0
    for turns in range(first, last):
        answer, _ = await ask(gateway, conversation(turns, "What is the code of n1?"))
        known += answer == "c1"
    summaries = sum(b"<conversation>" in call.body for call in upstream.calls[calls:])
    print(f"\n{last - first} turns more, one by one: {known} answers know it, {summaries} calls summed up")


async def main() -> None:
    """Print the table."""
    async with upstreams.serve(narrow(WINDOW)) as upstream:
        with tempfile.TemporaryDirectory() as folder:
            provider = gateways.provider(upstream.url)
            async with gateways.serve(
                Path(folder), provider, sections={"condensation": SECTION}, proxy_info=True
            ) as gateway:
                print(f"a window of {WINDOW} tokens; the model sums up itself\n")
                print(ROW.format("turns", "before", "after", "ratio", "known", "cut off", "summaries", "from kept"))
                for turns in TURNS:
                    await measure(gateway, upstream, turns)
                await grow(gateway, upstream, 80, 200)


if __name__ == "__main__":
    asyncio.run(main())
