"""Words of the documents' configurations that bound what a gateway does: each is acted on, seen from both its sides."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.wire.gateway import MODEL, UNLIMITED, Gateway, eventually, provider, serve
from tests.wire.upstream import Call, Script, Upstream, answering, completion

OPENS: dict[str, set[str]] = {
    "Exception": {"500", "reset", "silence", "no JSON"},
    "OSError": {"500", "reset", "silence", "no JSON"},
    "ConnectionError": {"500", "reset", "no JSON"},
    "TimeoutError": {"silence"},
}
"""Which failures open a breaker, by what ``expected_exception`` says."""


async def reset(call: Call) -> None:
    call.reset()


async def silence(call: Call) -> None:
    await call.gone.wait()


FAILURES: dict[str, Script] = {
    "500": answering({"error": {"message": "Oh no."}}, 500),
    "reset": reset,
    "silence": silence,
    "no JSON": answering("no completion"),
}


@pytest.mark.row("P8", "P11")
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("expected", OPENS)
async def test_the_expected_exception_decides_which_failures_open_a_breaker(
    tmp_path: Path, upstream: Upstream, second: Upstream, expected: str, failure: str
) -> None:
    upstream.script, second.script = FAILURES[failure], answering(completion())
    breaker = {"failure_threshold": 2, "recovery_timeout": 600, "expected_exception": expected}
    first = provider(upstream.url, timeout=0.5 if failure == "silence" else 15.0, max_retries=0)
    other = {**provider(second.url, priority=2), "name": "second"}
    async with serve(tmp_path, first, other, sections={"circuit_breaker": breaker}) as gateway:
        for _ in range(2):
            assert (await gateway.plain()).headers["x-penstock-deployment"] == f"second/{MODEL}"
        assert len(upstream.calls) == 2
        upstream.script = answering(completion())
        reply = await gateway.plain()
    opened = failure in OPENS[expected]
    assert reply.headers["x-penstock-deployment"] == f"{'second' if opened else 'first'}/{MODEL}"
    assert len(upstream.calls) == (2 if opened else 3)


async def statuses(gateway: Gateway, count: int) -> list[int]:
    """The answers to so many requests that come at once."""
    return sorted(reply.status for reply in await asyncio.gather(*(gateway.plain() for _ in range(count))))


@pytest.mark.row("P11")
@pytest.mark.parametrize(
    ("section", "granted"),
    [
        ({"requests_per_window": 600, "window_seconds": 600, "burst_limit": 3}, 3),
        ({"requests_per_window": 5, "window_seconds": 300, "burst_limit": 4}, 4),
        ({"requests_per_window": 3, "window_seconds": 180}, 3),  # nobody who says 3 means the 50 of burst_limit
    ],
)
async def test_a_rate_limit_of_the_document_is_reached(
    tmp_path: Path, upstream: Upstream, section: dict[str, Any], granted: int
) -> None:
    upstream.script = answering(completion())
    async with serve(tmp_path, provider(upstream.url), limits={}, sections={"rate_limit": section}) as gateway:
        assert await statuses(gateway, granted + 2) == [200] * granted + [429] * 2
        refused = await gateway.plain()
    assert refused.error["code"] == "rate_limited"
    window = section["window_seconds"] / section["requests_per_window"]
    assert 0 < refused.error["retry_after"] <= window + 1
    assert len(upstream.calls) == granted


@pytest.mark.row("P1")
@pytest.mark.parametrize("where", ["the provider", "http_client"])
async def test_no_more_requests_than_a_providers_max_connections_are_under_way_at_it(
    tmp_path: Path, upstream: Upstream, where: str
) -> None:
    go = asyncio.Event()

    async def script(call: Call) -> None:
        await go.wait()
        call.answer(completion())

    upstream.script = script
    own = {"max_connections": 2} if where == "the provider" else {}
    sections = {} if own else {"http_client": {"pool_limits": {"max_connections": 2}}}
    async with serve(tmp_path, provider(upstream.url, **own), limits=UNLIMITED, sections=sections) as gateway:
        asked = [asyncio.ensure_future(gateway.plain()) for _ in range(6)]
        await upstream.call(1)
        await eventually(lambda: gateway.house.guests.inside == len(asked))
        assert len(upstream.calls) == 2
        go.set()
        replies = await asyncio.gather(*asked)
    assert [reply.status for reply in replies] == [200] * len(asked), "those that wait are served in their turn"
    assert len(upstream.calls) == len(asked)
    assert len({call.connection for call in upstream.calls}) == 2
    assert {reply.json["model"] for reply in replies} == {MODEL}


@pytest.mark.row("P1")
async def test_who_finds_no_room_at_a_provider_is_served_by_the_next(
    tmp_path: Path, upstream: Upstream, second: Upstream
) -> None:
    go = asyncio.Event()

    async def script(call: Call) -> None:
        await go.wait()
        call.answer(completion())

    upstream.script, second.script = script, answering(completion())
    full = provider(upstream.url, max_connections=1, connect_timeout=0.5, max_retries=0)
    other = {**provider(second.url, priority=2), "name": "second"}
    async with serve(tmp_path, full, other) as gateway:
        first = asyncio.ensure_future(gateway.plain())
        await upstream.call()
        reply = await gateway.plain()
        go.set()
        assert (await first).status == 200
    assert reply.headers["x-penstock-deployment"] == f"second/{MODEL}"
    assert (len(upstream.calls), len(second.calls)) == (1, 1)
