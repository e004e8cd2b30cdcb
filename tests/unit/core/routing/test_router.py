"""Who is tried first, who next, who not now; and when the same place is tried again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from penstock.core.routing import place as places
from penstock.core.routing import router as routers
from penstock.core.routing.breaker import Bounds
from penstock.core.routing.router import Router
from penstock.core.routing.tries import Tries
from penstock.errors import (
    InvalidRequest,
    UpstreamBusy,
    UpstreamError,
    UpstreamLacks,
    UpstreamProtocolError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from penstock.schema.key import ANONYMOUS
from penstock.schema.model import Deployment
from penstock.schema.request import CHAT, COMPLETIONS, Request
from tests.unit.memory import Clock

BOUNDS = Bounds(failure_threshold=2, recovery_timeout=30.0)
BROKEN = (UpstreamUnavailable("x"), UpstreamTimeout("x"), UpstreamProtocolError("x"))
NOT_BROKEN = (UpstreamBusy("x"), UpstreamRefused("x", status=400), InvalidRequest("x"), asyncio.CancelledError())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(places, "time", clock)
    monkeypatch.setattr(routers, "time", clock)
    return clock


def at(name: str, **fields: Any) -> Deployment:
    """A place of this name."""
    return Deployment(name, "m", name, "openai", "m", "http://x", **fields)


def asking(deadline: float = 1e9) -> Request:
    """A request."""
    return Request("req_1", CHAT, "m", {"messages": []}, False, ANONYMOUS, deadline)


def call(router: Router, place: Deployment, error: BaseException | None, endpoint: str = CHAT) -> None:
    """Let a call to a place end so."""
    router.place(place).began()
    router.ended(router.place(place), error, endpoint)


def fail(router: Router, place: Deployment, error: BaseException) -> None:
    """Let a call to a place fail."""
    call(router, place, error)


def order(router: Router, *deployments: Deployment) -> str:
    return "".join(place.deployment.id for place in router.order(deployments, asking()))


A, B, C = at("a", priority=1), at("b", priority=2), at("c", priority=3)


def test_forced_places_go_first_and_then_the_lower_priority() -> None:
    assert order(Router(), C, A, B) == "abc"
    assert order(Router(), A, B, replace(C, forced=True)) == "cab"


@pytest.mark.parametrize("error", BROKEN, ids=repr)
def test_a_place_that_fails_is_left_alone_for_a_while(clock: Clock, error: UpstreamError) -> None:
    router = Router(bounds=BOUNDS)
    fail(router, A, error)
    assert order(router, A, B) == "ab"
    fail(router, A, error)
    assert order(router, A, B) == "ba"
    clock.now += 30
    assert order(router, A, B) == "ab"
    router.place(A).began()
    assert order(router, A, B) == "ba", "one call tries it, the others do not wait for that"
    router.ended(router.place(A), None, CHAT)
    assert order(router, A, B) == "ab"


@pytest.mark.parametrize("error", NOT_BROKEN, ids=repr)
def test_busy_is_not_broken_and_neither_is_a_callers_own_mistake(clock: Clock, error: BaseException) -> None:
    router = Router(bounds=BOUNDS)
    for _ in range(9):
        fail(router, A, error)
    clock.now += 5
    assert order(router, A, B) == "ab"


def test_a_busy_place_comes_last_for_as_long_as_it_says(clock: Clock) -> None:
    router = Router()
    fail(router, A, UpstreamBusy("x", retry_after=7))
    assert order(router, A, B, C) == "bca"
    clock.now += 7
    assert order(router, A, B, C) == "abc"
    fail(router, A, UpstreamBusy("x", retry_after=86_400))
    clock.now += places.LONGEST
    assert order(router, A, B, C) == "abc", "nobody is left alone for a day"


def test_what_is_broken_is_tried_when_nobody_else_could_answer(clock: Clock) -> None:
    router = Router(bounds=BOUNDS)
    for place in (B, A):
        fail(router, place, BROKEN[0])
        fail(router, place, BROKEN[0])
        clock.now += 1
    assert order(router, A, B) == "ba", "the one whose time is over first"
    assert order(router, A) == "a"


def test_a_worker_that_has_come_back_is_another(clock: Clock) -> None:
    router = Router(bounds=BOUNDS)
    worker = replace(A, generation="g1")
    for _ in range(2):
        fail(router, worker, BROKEN[0])
    assert order(router, worker, B) == "ba"
    assert order(router, replace(worker, generation="g2"), B) == "ab"


def test_who_lacks_one_endpoint_serves_the_others(clock: Clock) -> None:
    router = Router(bounds=BOUNDS)
    call(router, A, None)
    for _ in range(9):
        call(router, A, UpstreamLacks("no such route"), COMPLETIONS)
    assert order(router, A, B) == "ab"
    for _ in range(2):
        call(router, A, UpstreamLacks("no such model"))
    assert order(router, A, B) == "ba", "it has served chats, and does no more"


def test_who_never_served_anything_and_lacks_all_is_broken(clock: Clock) -> None:
    router = Router(bounds=BOUNDS)
    for _ in range(2):
        call(router, A, UpstreamLacks("no such model"))
    assert order(router, A, B) == "ba"


def test_what_is_known_of_a_place_outlives_a_new_registry() -> None:
    router = Router()
    router.place(A).answered(0.5, 1.0, 11)
    again = router.place(replace(A, timeout=9.0))
    assert (again.ttft, again.per_token, again.deployment.timeout) == (0.5, 0.05, 9.0)


def test_latency_follows_real_traffic() -> None:
    place = Router().place(A)
    for _ in range(50):
        place.answered(0.2, 1.2, 101)
    assert place.ttft == pytest.approx(0.2)
    assert place.per_token == pytest.approx(0.01)
    place.answered(1.2, 1.2, 1)
    assert 0.2 < (place.ttft or 0) < 1.2
    assert place.per_token == pytest.approx(0.01), "a single token tells nothing of the others"


# one request


async def tried(tries: Tries, error: UpstreamError | None = None) -> str:
    """Which places are tried while each fails."""
    seen = ""
    while place := await tries.next():
        seen += place.deployment.id
        tries.failed(place, error or UpstreamUnavailable("x"))
    return seen


def tries(*deployments: Deployment, attempts: int = 9, seconds: float = 60) -> Tries:
    asked = asking(asyncio.get_running_loop().time() + seconds)
    return Tries(Router().order(deployments, asked), asked, attempts)


async def test_each_place_is_tried_once() -> None:
    assert await tried(tries(A, B, C)) == "abc"
    assert await tried(tries(A, B, C, attempts=2)) == "ab"


async def test_a_place_with_retries_is_tried_again_once_all_have_failed() -> None:
    again = replace(B, retries=2, retry_delay=0.001)
    assert await tried(tries(A, again, C)) == "abcbb"
    assert await tried(tries(A, again, C, attempts=4)) == "abcb", "all attempts together are bounded"


async def test_the_retry_after_of_a_place_is_a_floor() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await tried(tries(replace(A, retries=1, retry_delay=0.001)), UpstreamBusy("x", retry_after=0.2)) == "aa"
    assert loop.time() - began >= 0.2


async def test_no_pause_is_begun_that_would_end_past_the_deadline() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await tried(tries(replace(A, retries=1)), UpstreamBusy("x", retry_after=61)) == "a"
    assert loop.time() - began < 5
