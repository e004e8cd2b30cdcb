"""A place that sleeps is woken by one process, once, and requests wait for it as long as they may."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from penstock.core.counters import Counter
from penstock.core.routing import warming as warmings
from penstock.core.routing.router import Router
from penstock.core.routing.warming import STARTS, WAITS, Warming
from penstock.errors import UpstreamTimeout, UpstreamUnavailable
from penstock.schema.key import ANONYMOUS
from penstock.schema.model import ColdStart, Deployment
from penstock.schema.request import CHAT, Request
from tests.unit.memory import DOWN, MemoryStore


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warmings, "AGAIN", 0.01)
    monkeypatch.setattr(warmings, "TOLD", 0.02)


class Server:
    """A server that sleeps until somebody looks at it, and is awake once it is told to be."""

    def __init__(self) -> None:
        self.awake = False
        self.looks = 0
        self.started = 0

    async def probe(self, deadline: float) -> None:
        """Answer only when awake."""
        self.looks += 1
        if not self.awake:
            raise UpstreamUnavailable("it sleeps")

    async def start(self, deployment: Deployment, deadline: float) -> None:
        """Be told to wake up."""
        self.started += 1


def cold_start(**fields: Any) -> ColdStart:
    return ColdStart(**{"seconds": 40.0, "budget": 30.0, "idle": 300.0} | fields)


class Process:
    """One process that shares the store and the sleeping server with others."""

    def __init__(self, server: Server, store: MemoryStore | None = None, **cold: Any) -> None:
        self.deployment = Deployment(
            "modal/tiny", "tiny", "modal", "sglang", "tiny", "http://m", cold_start=cold_start(**cold)
        )
        self.router = Router(store=store)  # type: ignore[arg-type]
        self.place = self.router.place(self.deployment)
        self.warming = Warming(self.router, lambda _: server, server.start)  # type: ignore[arg-type, return-value]
        self.comments: list[str] = []

    async def wait(self, seconds: float = 60.0) -> None:
        """Wait as a request with so much time does."""
        deadline = asyncio.get_running_loop().time() + seconds
        request = Request(
            "req_1", CHAT, "tiny", {"messages": []}, True, ANONYMOUS, deadline, comment=self.comments.append
        )
        await self.warming.wait(self.place, request)

    def cold(self) -> bool:
        return self.place.cold(asyncio.get_running_loop().time())


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.005)


def counted(counter: Counter, *labels: str) -> float:
    return counter.values.get(labels, 0)


async def test_a_request_waits_until_the_place_is_awake_and_is_told_the_truth_meanwhile() -> None:
    server = Server()
    process = Process(server)
    waiting = asyncio.ensure_future(process.wait())
    await until(lambda: len(process.comments) >= 3)
    assert not waiting.done()
    assert set(process.comments) == {"warming tiny, 0s of about 40s"}
    server.awake = True
    await waiting
    assert not process.cold()
    assert server.started == 0, "nobody said how it is told"


async def test_who_says_how_has_it_told_once() -> None:
    server = Server()
    process = Process(server, wake_url="http://scaler/up")
    waiting = asyncio.ensure_future(process.wait())
    await until(lambda: server.looks >= 3)
    server.awake = True
    await waiting
    assert server.started == 1


async def test_there_is_no_herd() -> None:
    server, store = Server(), MemoryStore()
    processes = [Process(server, store) for _ in range(4)]
    waiting = [asyncio.ensure_future(process.wait()) for process in processes for _ in range(25)]
    await until(lambda: server.looks >= 3)
    before = counted(STARTS, "modal", "warm")
    server.awake = True
    await asyncio.gather(*waiting)
    assert not any(process.cold() for process in processes), "all have heard of it"
    assert counted(STARTS, "modal", "warm") == before + 1, "one has woken it"


async def test_when_the_waker_dies_another_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warmings, "LEASE", 0.2)
    server, store = Server(), MemoryStore()
    one, two = Process(server, store), Process(server, store)
    dying = asyncio.ensure_future(one.wait())
    await until(lambda: server.looks >= 1)
    waiting = asyncio.ensure_future(two.wait())
    await until(lambda: store.asked["list_notices"] >= 1)
    await one.warming.close()
    with pytest.raises(asyncio.CancelledError):
        await dying
    looks = server.looks
    await until(lambda: server.looks > looks)
    server.awake = True
    await waiting


async def test_a_request_waits_no_longer_than_the_place_s_budget() -> None:
    process = Process(Server(), budget=0.1)
    before = counted(WAITS, "modal", "cold")
    with pytest.raises(UpstreamTimeout, match="modal did not wake up"):
        await process.wait()
    assert counted(WAITS, "modal", "cold") == before + 1
    await until(lambda: process.place.busy_until > asyncio.get_running_loop().time())  # the next asks others first


async def test_a_request_waits_no_longer_than_it_has_time_and_others_go_on() -> None:
    server = Server()
    process = Process(server)
    patient = asyncio.ensure_future(process.wait())
    with pytest.raises(UpstreamTimeout):
        await process.wait(0.05)
    server.awake = True
    await patient
    assert process.place.busy_until == 0.0, "that one had no time tells nothing of the place"


async def test_who_leaves_does_not_stop_the_start() -> None:
    server = Server()
    process = Process(server)
    before = counted(WAITS, "modal", "left")
    leaving = asyncio.ensure_future(process.wait())
    await until(lambda: server.looks >= 1)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert counted(WAITS, "modal", "left") == before + 1
    server.awake = True
    await until(lambda: not process.cold())


async def test_it_is_awake_for_as_long_as_it_is_said_to_stay_so_after_an_answer() -> None:
    server = Server()
    process = Process(server, idle=0.05)
    place = process.place
    place.began()
    process.router.ended(place, None, CHAT)
    assert not process.cold()
    await until(process.cold)


async def test_what_one_process_was_served_by_is_awake_for_all() -> None:
    server, store = Server(), MemoryStore()
    one, two = Process(server, store), Process(server, store)
    one.place.began()
    one.router.ended(one.place, None, CHAT)
    assert one.router.board is not None
    assert two.router.board is not None
    await one.router.board.settled()
    await two.router.board.read()
    assert not two.cold()
    for _ in range(50):
        one.place.began()
        one.router.ended(one.place, None, CHAT)
    await one.router.board.settled()
    assert store.asked["post_notice"] == 1, "not every answer is worth a write"


async def test_while_the_store_is_away_each_process_wakes_by_itself() -> None:
    server, store = Server(), MemoryStore()
    store.failure = DOWN
    process = Process(server, store)
    server.awake = True
    await process.wait()
    assert not process.cold()
