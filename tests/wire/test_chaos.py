"""Faults put between the gateway and its providers: what callers, the ledger, breakers and counters see of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from penstock.providers._chaos import INJECTED
from penstock.schema.outcome import OK
from tests.wire import gateway as gateways
from tests.wire.gateway import Gateway
from tests.wire.upstream import HELLO, Upstream, answering, chunk, completion, streaming

Start = Callable[..., AbstractAsyncContextManager[Gateway]]
LONG = (*(chunk(f"word{number} ") for number in range(9)), chunk(finish="stop"))


@pytest.fixture
def start(tmp_path: Path, upstream: Upstream, second: Upstream) -> Start:
    """Starts a gateway with these faults, and two providers of one model that are content."""
    upstream.script = second.script = answering(completion())

    @asynccontextmanager
    async def start(*faults: dict[str, Any], retries: int = 0, **sections: Any) -> AsyncIterator[Gateway]:
        chaos = {"enabled": True, "seed": 7, "faults": [{"probability": 1, **fault} for fault in faults]}
        first = gateways.provider(upstream.url, max_retries=retries, retry_delay=0.01)
        other = gateways.provider(second.url, name="second", priority=2)
        async with gateways.serve(
            tmp_path, first, other, sections={"chaos_engineering": chaos, **sections}, proxy_info=True
        ) as gateway:
            yield gateway

    return start


def counted(kind: str) -> float:
    return sum(value for (each, _, _), value in INJECTED.values.items() if each == kind)


async def test_an_error_moves_a_request_on_as_a_providers_own_would(start: Start, upstream: Upstream) -> None:
    before = counted("error")
    async with start({"type": "error", "error_code": 503, "providers": ["first"], "severity": "low"}) as gateway:
        reply = await gateway.plain()
        outcome = await gateway.outcome()
    assert reply.status == 200
    assert reply.headers["x-penstock-provider"] == "second"
    assert reply.headers["x-penstock-chaos"] == "error;severity=low"
    (attempt,) = reply.json["_proxy_info"]["attempts"]
    assert (attempt["code"], attempt["injected"]) == ("upstream_unavailable", True)
    assert not upstream.calls
    assert (outcome.ended, outcome.marks, len(outcome.failures)) == (OK, ("chaos:error;severity=low",), 1)
    assert counted("error") == before + 1


async def test_an_error_has_the_status_and_the_words_that_were_wanted(start: Start) -> None:
    async with start({"type": "error", "error_code": 418, "error_message": "A teapot on purpose"}) as gateway:
        reply = await gateway.plain()
    assert (reply.status, reply.error["message"]) == (418, "A teapot on purpose")
    assert reply.headers["x-penstock-chaos"] == "error;severity=medium"


async def test_breakers_open_by_faults(start: Start) -> None:
    fault = {"type": "error", "providers": ["first"]}
    async with start(fault, circuit_breaker={"failure_threshold": 2}) as gateway:
        attempts = [(await gateway.plain()).headers["x-penstock-attempts"] for _ in range(4)]
    assert attempts == ["2", "2", "1", "1"]


async def test_a_delay_is_felt_and_marked(start: Start) -> None:
    async with start({"type": "delay", "duration_ms": 80}) as gateway:
        began = asyncio.get_running_loop().time()
        reply = await gateway.plain()
        assert asyncio.get_running_loop().time() - began >= 0.08
        outcome = await gateway.outcome()
    assert reply.status == 200
    assert outcome.marks == ("chaos:delay;severity=medium",)


async def test_a_delay_beyond_the_first_tokens_time_moves_on(
    tmp_path: Path, upstream: Upstream, second: Upstream
) -> None:
    second.script = answering(completion())
    chaos = {
        "enabled": True,
        "faults": [{"type": "delay", "probability": 1, "duration_ms": 60_000, "providers": ["f*"]}],
    }
    first = gateways.provider(upstream.url, first_token_timeout=0.05)
    other = gateways.provider(second.url, name="second", priority=2)
    async with gateways.serve(tmp_path, first, other, sections={"chaos_engineering": chaos}) as gateway:
        reply = await gateway.plain()
    assert reply.headers["x-penstock-provider"] == "second"
    assert "upstream_timeout" in reply.headers["x-penstock-failed"]


@pytest.mark.parametrize("kind", ["cut_stream", "malformed_frame"])
async def test_a_stream_that_breaks_ends_with_an_error_or_moves_on(
    start: Start, upstream: Upstream, second: Upstream, kind: str
) -> None:
    upstream.script, second.script = streaming(*LONG), streaming(*HELLO)
    ends = set()
    async with start({"type": kind, "providers": ["first"]}, circuit_breaker={"failure_threshold": 1000}) as gateway:
        for number in range(12):
            reply = await gateway.stream()
            assert reply.headers["x-penstock-chaos"] == f"{kind};severity=medium"
            if reply.headers["x-penstock-provider"] == "second":
                assert reply.ended_well()
                ends.add("moved on")
            else:
                assert reply.failed_with()["code"] == "upstream_protocol_error"
                ends.add("told")
            assert len(await gateway.outcomes(number + 1)) == number + 1
    assert ends == {"moved on", "told"}


@pytest.mark.parametrize("kind", ["cut_stream", "malformed_frame"])
async def test_a_whole_answer_that_breaks_moves_on(start: Start, kind: str) -> None:
    async with start({"type": kind, "providers": ["first"]}) as gateway:
        reply = await gateway.plain()
    assert (reply.status, reply.headers["x-penstock-provider"]) == (200, "second")


async def test_only_calls_of_the_named_keys_are_touched(start: Start) -> None:
    async with start({"type": "error", "error_code": 400, "keys": ["config-2"]}) as gateway:
        assert (await gateway.plain()).status == 200
    async with start({"type": "error", "error_code": 400, "keys": ["config-*"]}) as gateway:
        assert (await gateway.plain()).status == 400


async def test_with_a_seed_the_same_calls_fail_again(start: Start) -> None:
    fault = {"type": "error", "error_code": 400, "probability": 0.5}
    seen = []
    for _ in range(2):
        async with start(fault) as gateway:
            seen.append([(await gateway.plain()).status for _ in range(16)])
    assert seen[0] == seen[1]
    assert set(seen[0]) == {200, 400}


async def test_without_chaos_a_connection_is_as_it_was(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script = answering(completion())
    chaos = {"enabled": False, "faults": [{"type": "error", "probability": 1}]}
    async with gateways.serve(
        tmp_path, gateways.provider(upstream.url), sections={"chaos_engineering": chaos}
    ) as gateway:
        reply = await gateway.plain()
        assert type(next(iter(gateway.house.registry._connections.values()))).__name__ == "OpenAI"
    assert reply.status == 200
    assert "x-penstock-chaos" not in reply.headers


async def test_faults_leave_no_hold_behind_and_grant_no_more_than_the_limit(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script = answering(completion())
    faults = [{"type": kind, "probability": 0.3} for kind in ("error", "cut_stream", "malformed_frame")]
    sections = {"chaos_engineering": {"enabled": True, "seed": 3, "faults": faults}}
    limits = {"key": {"concurrency": 2, "requests_per_minute": 6000}, "gateway": {}, "address": {}, "endpoint": {}}
    async with gateways.serve(tmp_path, gateways.provider(upstream.url), limits=limits, sections=sections) as gateway:
        replies = [await gateway.plain() for _ in range(30)]
        assert {reply.status for reply in replies} == {200, 502}
        assert not [reply for reply in replies if reply.status == 429], "every slot came back"
