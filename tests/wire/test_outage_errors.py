"""What an outage leaves behind: what callers are told when nobody answers, what is not tried, and what is paid."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.wire.gateway import MODEL, Gateway, provider, serve
from tests.wire.outage.answers import WAYS, Way, answer_well, number_of, usage
from tests.wire.outage.callers import bare
from tests.wire.outage.every import FAULTS
from tests.wire.outage.faults import BUSY, DOWN, LATE, STATUS, Fault, open_at
from tests.wire.outage.statuses import error
from tests.wire.upstream import Call, Script, Upstream, answering, streaming

both = pytest.mark.parametrize("way", [WAYS["chat"], WAYS["streamed-chat"]], ids=["plain", "streamed"])
NOBODY = {"health_check": {"enabled": False}}


def three(first: str, *others: Upstream, **fields: Any) -> list[dict[str, Any]]:
    """Providers in this order."""
    urls = [first, *(upstream.url for upstream in others)]
    return [provider(url, name=f"no-{rank}", priority=rank, **fields) for rank, url in enumerate(urls, 1)]


# Nobody answers


@both
async def test_the_error_names_every_attempt_in_order(
    tmp_path: Path, upstream: Upstream, second: Upstream, way: Way
) -> None:
    upstream.script, second.script = FAULTS["too many requests"].act, FAULTS["server error 500"].act
    async with serve(tmp_path, *three(upstream.url, second), sections=NOBODY) as gateway:
        reply = await (gateway.stream() if way.stream else gateway.plain())
    assert (reply.status, reply.error["code"]) == (503, "provider_unavailable")
    told = [(attempt["deployment"], attempt["code"]) for attempt in reply.error["attempts"]]
    assert told == [(f"no-1/{MODEL}", BUSY), (f"no-2/{MODEL}", DOWN)]
    assert all(deployment in reply.error["message"] for deployment, _ in told)


@both
async def test_the_time_to_come_again_is_passed_on(
    tmp_path: Path, upstream: Upstream, second: Upstream, way: Way
) -> None:
    upstream.script = second.script = FAULTS["too many requests for milliseconds"].act
    async with serve(tmp_path, *three(upstream.url, second), sections=NOBODY) as gateway:
        reply = await (gateway.stream() if way.stream else gateway.plain())
    assert (reply.headers["retry-after"], reply.error["retry_after"]) == ("7", 6.5)


@both
@pytest.mark.parametrize("other", ["server error 500", "too many requests until a date"])
async def test_the_soonest_time_is_told(
    tmp_path: Path, upstream: Upstream, second: Upstream, way: Way, other: str
) -> None:
    upstream.script, second.script = FAULTS["too many requests for seconds"].act, FAULTS[other].act
    async with serve(tmp_path, *three(upstream.url, second), sections=NOBODY) as gateway:
        reply = await (gateway.stream() if way.stream else gateway.plain())
    assert reply.headers["retry-after"] == "7"


@both
async def test_all_attempts_share_one_deadline(tmp_path: Path, upstream: Upstream, second: Upstream, way: Way) -> None:
    upstream.script = second.script = FAULTS["no answer"].act
    providers = three(upstream.url, second, timeout=0.4, max_retries=5, retry_delay=0.01)
    async with serve(tmp_path, *providers, sections=NOBODY, timeout=1.0, attempts=20) as gateway:
        reply = await (gateway.stream() if way.stream else gateway.plain())
        outcome = await gateway.outcome()
    assert reply.status == STATUS[LATE]
    assert 2 <= outcome.attempts <= 4
    assert 0.9 < outcome.duration < 3.0


# Somebody answers


@both
async def test_nobody_waits_between_one_place_and_the_next(
    tmp_path: Path, upstream: Upstream, second: Upstream, way: Way
) -> None:
    upstream.script = FAULTS["too many requests for seconds"].act
    second.script = answer_well
    providers = three("http://127.0.0.1:9/v1", upstream, second, max_retries=3, retry_delay=60)
    async with serve(tmp_path, *providers, sections=NOBODY) as gateway, bare(gateway.url) as ask:
        async with asyncio.timeout(5):
            told = await ask(way, MODEL, 11)
    assert told.right(11, way)
    assert told.attempts == 3


STALLS = [
    "no answer",
    "stalled within the head",
    "stalled after the head",
    "the role and then silence",
    "pings without end",
    "empty chunks without end",
]


@pytest.mark.parametrize("name", STALLS)
async def test_a_place_that_stalls_is_left_before_the_first_token_is_late(
    tmp_path: Path, second: Upstream, name: str
) -> None:
    second.script = answer_well
    async with open_at(FAULTS[name]) as faulty:
        rows = three(faulty.url, second, type="vllm")
        rows[0]["first_token_timeout"] = 0.3
        async with serve(tmp_path, *rows, sections=NOBODY) as gateway, bare(gateway.url) as ask:
            for number, way in enumerate((WAYS["chat"], WAYS["streamed-chat"]), 11):
                async with asyncio.timeout(10):
                    told = await ask(way, MODEL, number)
                assert told.right(number, way)
                assert told.attempts == 2


@pytest.mark.parametrize("name", ["redirected 302", "redirected 307"])
async def test_nobody_is_followed_elsewhere(tmp_path: Path, upstream: Upstream, second: Upstream, name: str) -> None:
    async def script(call: Call) -> None:
        call.answer(b"", int(name[-3:]), "text/html", Location=f"{second.url}/elsewhere")

    upstream.script, second.script = script, answer_well
    rows = three(upstream.url, second)
    rows[0]["api_key_env"] = "ENGINE_API_KEY"
    secret = {"ENGINE_API_KEY": "sk-engine-secret"}
    async with serve(tmp_path, *rows, sections=NOBODY, credentials=secret) as gateway, bare(gateway.url) as ask:
        assert (await ask(WAYS["chat"], MODEL, 11)).right(11, WAYS["chat"])
    [call] = second.calls
    assert call.target == "/v1/chat/completions"
    assert "authorization" not in call.headers


# What is not tried elsewhere

OVERFLOW = "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens."
WRONG = error("Unknown parameter: top_q", "invalid_request_error", "unknown_parameter")
THEIRS: dict[str, tuple[Script, int]] = {
    "400": (answering(WRONG, 400), 400),
    "400 for the context": (answering(error(OVERFLOW, "invalid_request_error"), 400), 400),
    "409": (answering(WRONG, 409), 409),
    "413": (answering(WRONG, 413), 413),
    "422": (answering({"detail": [{"loc": ["body"], "msg": "Input should be a valid list"}]}, 422), 422),
    "400 in a 200": (answering({"object": "error", "message": "No.", "code": 400}), 400),
    "400 in a frame": (streaming(WRONG), 400),
}


@pytest.mark.parametrize("kind", ["openai", "vllm"])
@pytest.mark.parametrize("name", THEIRS)
async def test_what_is_the_callers_own_mistake_is_tried_nowhere_else(
    tmp_path: Path, upstream: Upstream, second: Upstream, name: str, kind: str
) -> None:
    upstream.script, status = THEIRS[name]
    second.script = answer_well
    streams = name == "400 in a frame"
    breaker = {"failure_threshold": 2}
    providers = three(upstream.url, second, type=kind, max_retries=3)
    async with serve(tmp_path, *providers, sections={**NOBODY, "circuit_breaker": breaker}) as gateway:
        for _ in range(3):
            assert (await (gateway.stream() if streams else gateway.plain())).status == status
    assert (len(upstream.calls), len(second.calls)) == (3, 0), "it was tried elsewhere, or opened a breaker"


# What is paid

CHEAP = {"provider": "no-2", "input": 1, "output": 2}
DEAR = {"provider": "no-1", "input": 900, "output": 1000}
RICH = {"budgets": {"key": {"total": 1000}}, "prices": [CHEAP, DEAR], **NOBODY}
GAVE_NOTHING = [
    "connection refused",
    "server error 500",
    "too many requests",
    "redirected 302",
    "reset before the head",
    "the role and then a reset",
    "an error frame after the role",
    "the role and then silence",
]
GAVE_SOMETHING = ["half an answer and then a reset", "half an answer and then an error frame"]


async def spent(gateway: Gateway, count: int) -> tuple[int, int]:
    """What the ledger says that so many requests have cost, and what the key's budget says that it has paid."""
    outcomes = await gateway.outcomes(count)
    await gateway.house.gateway.limiter.settled()
    meter = await gateway.house.store.read_meter(f"key#{outcomes[0].key_id}")
    assert not meter.holds
    return sum(outcome.cost_nanos or 0 for outcome in outcomes), meter.spent["total"]


async def ask_both_ways(tmp_path: Path, fault: Fault, second: Upstream) -> tuple[int, int]:
    second.script = answer_well
    limits = {"key": {"concurrency": 10}}
    async with open_at(fault) as faulty:
        rows = three(faulty.url, second, type="vllm", timeout=0.3 if fault.code == LATE else 10.0)
        async with serve(tmp_path, *rows, sections=RICH, limits=limits) as gateway, bare(gateway.url) as ask:
            await asyncio.gather(*(ask(way, MODEL, 11) for way in (WAYS["chat"], WAYS["streamed-chat"])))
            return await spent(gateway, 2)


def price_of(second: Upstream) -> int:
    """What the healthy provider's answers cost, in nano-dollars."""
    used = [usage(call) for call in second.calls if call.method == "POST" and number_of(call)]
    return sum(1000 * (each["prompt_tokens"] + 2 * each["completion_tokens"]) for each in used)


@pytest.mark.parametrize("name", GAVE_NOTHING)
async def test_an_attempt_that_gave_nothing_costs_nothing(tmp_path: Path, second: Upstream, name: str) -> None:
    told, paid = await ask_both_ways(tmp_path, FAULTS[name], second)
    assert told == paid == price_of(second)


@pytest.mark.parametrize("name", GAVE_SOMETHING)
async def test_what_was_given_before_a_cut_is_paid_once(tmp_path: Path, second: Upstream, name: str) -> None:
    told, paid = await ask_both_ways(tmp_path, FAULTS[name], second)
    assert told == paid > price_of(second)
