"""Several processes, one store: what one finds broken all leave alone, and one of them tries it again."""

from __future__ import annotations

import pytest

from penstock.core import noticeboard
from penstock.core.routing import place as places
from penstock.core.routing import router as routers
from penstock.core.routing.breaker import Bounds
from penstock.core.routing.router import Router
from penstock.errors import UpstreamUnavailable
from penstock.schema.key import ANONYMOUS
from penstock.schema.model import Deployment
from penstock.schema.notice import DOWN, HEALTH, UP
from penstock.schema.request import CHAT, Request
from tests.unit import memory
from tests.unit.memory import Clock, MemoryStore

BROKEN = UpstreamUnavailable("no connection")
A = Deployment("a/m", "m", "a", "openai", "m", "http://a", priority=1)
B = Deployment("b/m", "m", "b", "openai", "m", "http://b", priority=2)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (places, routers, noticeboard):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


class Process:
    """One process's router."""

    def __init__(self, store: MemoryStore) -> None:
        bounds = Bounds(failure_threshold=2, recovery_timeout=30.0)
        self.router = Router(bounds=bounds, store=store)  # type: ignore[arg-type]
        assert self.router.board is not None
        self.board = self.router.board

    def order_now(self) -> str:
        asked = Request("req_1", CHAT, "m", {"messages": []}, False, ANONYMOUS, 1e9)
        return "".join(place.deployment.provider for place in self.router.order((A, B), asked))

    async def order(self) -> str:
        """Who is tried, after everything is read that others have told."""
        await self.board.read()
        await self.router.look_around((A, B))
        return self.order_now()

    async def call(self, deployment: Deployment, error: Exception | None = None) -> None:
        place = self.router.place(deployment)
        place.began()
        self.router.ended(place, error, CHAT)
        await self.board.settled()


async def broken(*processes: Process) -> None:
    """Let the first process find A broken, and all others read of it."""
    for process in processes:
        assert process.order_now() == "ab"
    for _ in range(2):
        await processes[0].call(A, BROKEN)
    for process in processes:
        assert await process.order() == "ba"


async def test_what_one_finds_broken_all_leave_alone(clock: Clock, store: MemoryStore) -> None:
    await broken(Process(store), Process(store), Process(store))
    [notice] = store.notices.values()
    assert (notice.place, notice.why) == ("a/m", "upstream_unavailable")


async def test_a_process_that_starts_later_knows_it_too(clock: Clock, store: MemoryStore) -> None:
    await broken(Process(store))
    assert await Process(store).order() == "ba", "it sees the place for the first time after it has read the notice"


async def test_one_of_all_tries_it_again_and_its_success_is_known_to_all(clock: Clock, store: MemoryStore) -> None:
    processes = [Process(store) for _ in range(5)]
    await broken(*processes)
    clock.now += 30
    trying = [process for process in processes if await process.order() == "ab"]
    assert len(trying) == 1
    await trying[0].call(A)
    assert [await process.order() for process in processes] == ["ab"] * 5


async def test_its_failure_leaves_it_alone_for_all(clock: Clock, store: MemoryStore) -> None:
    one, two = Process(store), Process(store)
    await broken(one, two)
    clock.now += 30
    assert [await one.order(), await two.order()] == ["ab", "ba"]
    await one.call(A, BROKEN)
    clock.now += 29
    assert [await one.order(), await two.order()] == ["ba", "ba"]
    clock.now += 1
    assert sorted([await one.order(), await two.order()]) == ["ab", "ba"]


async def test_when_the_one_who_tries_dies_another_does(clock: Clock, store: MemoryStore) -> None:
    one, two = Process(store), Process(store)
    await broken(one, two)
    clock.now += 30
    assert await one.order() == "ab"
    clock.now += 29
    assert await two.order() == "ba"
    clock.now += noticeboard.BELIEVED
    assert await two.order() == "ab"


async def test_while_nobody_tries_the_store_is_not_asked_at_each_request(clock: Clock, store: MemoryStore) -> None:
    one, two = Process(store), Process(store)
    await broken(one, two)
    clock.now += 30
    await one.order()
    asked = store.asked["take_duty"]
    for _ in range(10):
        await two.router.look_around((A, B))
    assert store.asked["take_duty"] == asked + 1


async def test_while_the_store_is_away_each_process_sees_for_itself(clock: Clock, store: MemoryStore) -> None:
    one = Process(store)
    store.failure = memory.DOWN
    for _ in range(2):
        await one.call(A, BROKEN)
    assert await one.order() == "ba"
    clock.now += 30
    assert await one.order() == "ab"
    await one.call(A)
    assert await one.order() == "ab"


async def test_what_is_down_is_left_alone_until_somebody_was_served_there(clock: Clock, store: MemoryStore) -> None:
    one, two = Process(store), Process(store)
    one.router.tell(A, HEALTH, DOWN, 90)
    await one.board.settled()
    assert [await one.order(), await two.order()] == ["ba", "ba"]
    clock.now += 1
    await two.call(A)
    assert await two.order() == "ab", "it has just answered"
    one.router.tell(A, HEALTH, UP, 90)
    assert await one.order() == "ab"


async def test_nobody_believes_for_ever_that_a_place_is_down(clock: Clock, store: MemoryStore) -> None:
    one = Process(store)
    one.router.tell(A, HEALTH, DOWN, 90)
    clock.now += 90
    assert await one.order() == "ab"


async def test_the_notices_are_read_behind_the_requests_backs(clock: Clock, store: MemoryStore) -> None:
    one = Process(store)
    for _ in range(20):
        await one.router.look_around((A, B))
    await store.until(lambda: store.asked["list_notices"] == 1)
    clock.now += noticeboard.BELIEVED + 0.1
    await one.router.look_around((A, B))
    await store.until(lambda: store.asked["list_notices"] == 2)
