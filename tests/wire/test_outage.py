"""A provider that fails in one of many ways, and a healthy one behind it: what callers, breakers and bills see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from penstock.core.routing import place as places
from penstock.core.routing import router as routers
from penstock.schema.outcome import Outcome
from tests.unit.memory import Clock
from tests.wire import gateway as gateways
from tests.wire.gateway import Gateway
from tests.wire.outage.answers import PROMPT_TOKENS, WAYS, Way, answer, answer_well
from tests.wire.outage.callers import Told, bare, official
from tests.wire.outage.every import FAULTS
from tests.wire.outage.faults import BUSY, NONE, STATUS, Fault, Faulty, open_at
from tests.wire.upstream import serve

KINDS = ("openai", "vllm")
"""One that is asked for what the caller wants, and one that is always asked for a stream."""
SOON = 0.3
PATIENT = 10.0
PRICES: list[dict[str, Any]] = [
    {"provider": "faulty-*", "input": 900, "output": 1000},
    {"provider": "healthy", "input": 1, "output": 2},
]
"""Dollars for a million tokens."""


CALLS = [
    (number, f"{kind}/{name}", WAYS[name])
    for number, (kind, name) in enumerate([(kind, name) for kind in KINDS for name in WAYS], 11)
]
"""A question for each way to ask a provider of each kind; each has a place, and so a breaker, of its own."""


def models(kind: str, *names: str) -> list[dict[str, str]]:
    return [{"name": f"{kind}/{name}", "upstream": "engine-1"} for name in names]


@asynccontextmanager
async def gateway_before(folder: Path, faulty: Faulty, **sections: Any) -> AsyncIterator[Gateway]:
    """A gateway to a faulty provider, once as each kind, and behind it to a healthy one; ``alone`` has no other."""
    fault = faulty.fault
    timeout = (1.0 if fault.after else SOON) if fault.late else PATIENT
    first = {"base_url": faulty.url, "timeout": timeout, "connect_timeout": SOON if fault.late else PATIENT}
    rows: list[dict[str, Any]] = [
        {"name": f"faulty-{kind}", "type": kind, **first, "models": models(kind, *WAYS, "alone")} for kind in KINDS
    ]
    async with serve(answer_well) as healthy:
        both = [model for kind in KINDS for model in models(kind, *WAYS)]
        rows.append({"name": "healthy", "type": "openai", "base_url": healthy.url, "priority": 2, "models": both})
        sections = {"health_check": {"enabled": False}, "prices": PRICES, **sections}
        async with gateways.serve(folder, *rows, sections=sections) as gateway:
            yield gateway


def judge(told: Told, number: int, way: Way, faulty: Faulty) -> None:
    """What a caller must have been told by a gateway whose first provider did or did not fail him."""
    fault = faulty.fault
    hit = fault.code != NONE and bool(faulty.hits[number] or fault.address)
    if told.code and fault.after and way.stream and hit:
        assert told.begun
        assert told.code == fault.code
        assert answer(number).startswith(told.text)
    else:
        assert told.right(number, way), told
        assert told.attempts == 1 + hit or fault.late, "a busy machine may pass for a fault that shows by waiting"


@pytest.mark.parametrize("name", FAULTS)
async def test_nobody_loses_an_answer_that_had_not_begun(tmp_path: Path, name: str) -> None:
    """Whoever asks in whatever way has the whole answer from the healthy provider; or, where a part of another one has
    reached him, an error that says so.
    """
    fault = FAULTS[name]
    async with open_at(fault) as faulty, gateway_before(tmp_path, faulty) as gateway:
        async with bare(gateway.url) as one, official(gateway.url) as other:
            asked = [(number, model, way, (one, other)[number % 2]) for number, model, way in CALLS]
            answers = await asyncio.gather(*(ask(way, model, number) for number, model, way, ask in asked))
        for told, (number, _, way, _) in zip(answers, asked, strict=True):
            judge(told, number, way, faulty)
        assert faulty.hits or fault.address, "nobody met the fault"
        assert any(told.code for told in answers) == fault.after, "a stream that was cut looks whole, or none was cut"
        outcomes = await gateway.outcomes(len(CALLS))
    assert len(outcomes) == len(CALLS)
    for outcome in outcomes:
        law_of_bills(outcome, fault)


def law_of_bills(outcome: Outcome, fault: Fault) -> None:
    """What gave nothing costs nothing, and the answer is paid once; what was given before a cut is paid as well."""
    assert outcome.cost_nanos is not None
    if outcome.ended == "ok" and not fault.after:
        assert outcome.usage.prompt_tokens == PROMPT_TOKENS
        price = PRICES[1] if outcome.deployment.startswith("healthy/") else PRICES[0]
        tokens = outcome.usage.prompt_tokens * price["input"] + outcome.usage.completion_tokens * price["output"]
        assert outcome.cost_nanos == tokens * 1000


@pytest.mark.parametrize("name", FAULTS)
async def test_a_broken_place_is_left_alone_and_a_busy_one_is_tried_again(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(places, "time", clock)
    monkeypatch.setattr(routers, "time", clock)
    fault = FAULTS[name]
    breaker = {"failure_threshold": 2, "recovery_timeout": 3600}
    model = "openai/chat" if fault.only == "plain" else "vllm/chat"
    async with open_at(fault) as faulty, gateway_before(tmp_path, faulty, circuit_breaker=breaker) as gateway:
        attempts = []
        async with bare(gateway.url) as ask:
            for number in range(11, 14):
                told = await ask(WAYS["chat"], model, number)
                assert told.right(number, WAYS["chat"])
                attempts.append(told.attempts)
                clock.now += 61
    assert attempts == {NONE: [1, 1, 1], BUSY: [2, 2, 2]}.get(fault.code, [2, 2, 1])


@pytest.mark.parametrize("name", FAULTS)
async def test_where_nobody_else_answers_the_error_says_what_is_wrong(tmp_path: Path, name: str) -> None:
    fault = FAULTS[name]
    kind = "openai" if fault.only == "plain" else "vllm"
    ways = ["chat"] if fault.only == "plain" or fault.after else ["chat", "streamed-chat"]
    async with open_at(fault) as faulty, gateway_before(tmp_path, faulty) as gateway, bare(gateway.url) as ask:
        for number, way in enumerate(ways, 11):
            told = await ask(WAYS[way], f"{kind}/alone", number)
            assert (told.status, told.code) == (STATUS[fault.code], fault.code)
            assert ("retry-after" in told.headers) == (fault.code == BUSY)
