"""What a request costs DynamoDB: the calls that it waits for, and the write units that its limits take.

Time is virtual: what takes three seconds here takes as long as its calculations do, and comes out alike each time.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from penstock import bootstrap, settings
from penstock.app import App
from penstock.bootstrap import backends
from penstock.core.keys import generate, new_key
from penstock.core.ports import Connection
from penstock.house import House
from penstock.schema.job import Job
from penstock.schema.model import Deployment
from tests.functions.billed import Billed, Till

ENDPOINT = "http://dynamodb.eu-west-1.amazonaws.com"
QUEUE = "sqs://sqs.eu-west-1.amazonaws.com/123456789012/jobs"
CONFIG = """\
logging: {level: ERROR}
jobs: {concurrency: 0}
providers:
  - {name: simulated, type: simulated, options: {ttft: 0, tokens_per_second: 0}}
prices: [{provider: simulated, input: 1, output: 1}]
"""
BODY = {"model": "simulated/echo", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 16}
Start = Callable[[str], AbstractAsyncContextManager["Process"]]
Swiftly = Callable[[Coroutine[Any, Any, Any]], Any]
UPSTREAM = Billed("call", "upstream")
EPOCH = 1_800_000_000


def alone(limits: str) -> str:
    """A configuration of these limits and no others."""
    given = {"gateway": "{}", "endpoint": "{}", "address": "{}", "key": "{}"}
    kept = [f"{name}: {none}" for name, none in given.items() if f"{name}:" not in limits]
    return f"limits: {{{', '.join([*kept, limits])}}}\n"


FREE = alone("lease_from: 3000")


class Swift(asyncio.SelectorEventLoop):
    """A loop on which nobody waits: where all would sleep, its clock goes on to the first who wakes."""

    def __init__(self) -> None:
        super().__init__(selectors.SelectSelector())
        self.now = 0.0
        look = self._selector.select

        def select(timeout: float | None = None) -> list[Any]:
            self.now += timeout or 0.0
            return look(0)

        self._selector.select = select

    def time(self) -> float:
        return self.now


@pytest.fixture
def swiftly(monkeypatch: pytest.MonkeyPatch) -> Swiftly:
    """Runs a test's story on a loop whose time is everybody's."""

    def run(story: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=Swift) as runner, monkeypatch.context() as patch:
            clock = runner.get_loop().time
            patch.setattr(time, "time", lambda: EPOCH + clock())
            patch.setattr(time, "time_ns", lambda: int((EPOCH + clock()) * 1e9))
            patch.setattr(time, "monotonic", clock)
            patch.setattr(time, "monotonic_ns", lambda: int(clock() * 1e9))
            return runner.run(story)

    return run


@dataclass
class Process:
    """A gateway of its own on the shared tables, and its caller; ``till`` sees what it asks of them."""

    house: House
    till: Till
    client: httpx.AsyncClient

    async def ask(self) -> list[Billed]:
        """What one answered request has cost, and what it left to be done behind its back."""
        began = len(self.till.calls)
        await self.asked()
        await asyncio.sleep(0.3)  # the ledger gathers for 0.1
        return self.till.calls[began:]

    async def asked(self) -> None:
        """One answered request."""
        answer = await self.client.post("/v1/chat/completions", json=BODY)
        assert answer.status_code == 200, answer.text


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Starts a process with this configuration; all of them share their tables and hold the same key."""
    state, secret = f"dynamodb://{uuid4().hex}-capacity?endpoint={ENDPOINT}", generate()

    @asynccontextmanager
    async def start(config: str) -> AsyncIterator[Process]:
        till = Till()

        (tmp_path / "config.yaml").write_text(CONFIG + config, encoding="utf-8")
        monkeypatch.setattr(backends, "HttpClient", lambda: till)
        house = bootstrap.build(settings.load({}, config=str(tmp_path / "config.yaml"), state=state, queue=QUEUE))
        app = App(lambda: house)
        await app.open()
        if await house.store.find_key(secret.sha256()) is None:
            await house.store.create_key(new_key(secret, owner="team"))
        connection = house.registry.connection

        def noted(place: Deployment) -> Connection:
            till.calls.append(UPSTREAM)
            return connection(place)

        monkeypatch.setattr(house.registry, "connection", noted)
        till.calls.clear()
        transport = httpx.ASGITransport(app, client=("203.0.113.9", 4711))
        headers = {"authorization": f"Bearer {secret.reveal()}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://penstock.test", headers=headers) as client:
            yield Process(house, till, client)
        await app.close()

    return start


def waited(calls: Sequence[Billed]) -> list[str]:
    """What was answered before the upstream was called."""
    return [f"{call.action} {call.table}" for call in calls[: calls.index(UPSTREAM)]]


def units(calls: Sequence[Billed], table: str = "limits") -> int:
    """The write units that a table took."""
    return sum(call.units for call in calls if call.table == table)


def writes(calls: Sequence[Billed]) -> int:
    """The calls that wrote to the meters."""
    return sum(call.table == "limits" for call in calls)


@dataclass(frozen=True)
class Cost:
    """What a request waits for before the upstream is called: the first of a process, and a later one. And the write
    units that the later one takes: to reserve, to settle, and for its line of the ledger.
    """

    cold: list[str]
    warm: list[str]
    reserve: int
    settle: int
    ledger: int


KEY, REGISTRY = "GetItem keys", "GetItem registry"
ONE, SEVERAL = "UpdateItem limits", "TransactWriteItems limits"
TOKENS = "key: {requests_per_minute: 60, tokens_per_minute: 10000}"
SLOTS = "key: {requests_per_minute: 60, tokens_per_minute: 10000, concurrency: 4}"
BUDGET = "budgets: {key: {daily: 10, total: 100}}\n"

# A unit is 1 KiB of an item, and one for each index that it enters or leaves. A transaction takes two for each of its
# items: by default those are the house's (the whole gateway and the endpoint), the key's and the address's. A line of
# the ledger stands in two indexes, all of it.
EXACT = {
    "no limits": (FREE, Cost([KEY, REGISTRY], [], 0, 0, 3)),
    "a key's requests": (alone("key: {requests_per_minute: 60}"), Cost([KEY, REGISTRY, ONE], [ONE], 1, 0, 3)),
    "a key's requests, tokens": (alone(TOKENS), Cost([KEY, REGISTRY, ONE], [ONE], 1, 1, 3)),
    "a key's requests, tokens, slots, budget": (
        alone(SLOTS) + BUDGET,
        Cost([KEY, REGISTRY, ONE], [ONE], 1, 1, 3),
    ),
    "the defaults": ("limits: {}\n", Cost([KEY, REGISTRY, SEVERAL], [SEVERAL], 6, 0, 3)),
    "the defaults, tokens": (f"limits: {{{TOKENS}}}\n", Cost([KEY, REGISTRY, SEVERAL], [SEVERAL], 6, 1, 3)),
    "the defaults, tokens, slots, budget": (
        f"limits: {{{SLOTS}}}\n{BUDGET}",
        Cost([KEY, REGISTRY, SEVERAL], [SEVERAL], 6, 1, 3),
    ),
    "the defaults, tokens, slots, budget, an owner's tokens": (
        f"limits: {{{SLOTS}, owner: {{requests_per_minute: 60, tokens_per_minute: 10000}}}}\n{BUDGET}",
        Cost([KEY, REGISTRY, SEVERAL], [SEVERAL], 8, 2, 3),
    ),
}


@pytest.mark.parametrize("mode", EXACT)
def test_what_a_request_costs_in_exact_mode(mode: str, started: Start, swiftly: Swiftly) -> None:
    config, expected = EXACT[mode]

    async def story() -> Cost:
        async with started(config) as before:
            await before.ask()  # publishes the registry and makes the meters
        await asyncio.sleep(60)
        async with started(config) as process:
            cold, warm = await process.ask(), await process.ask()
        at = warm.index(UPSTREAM)
        return Cost(waited(cold), waited(warm), units(warm[:at]), units(warm[at:]), units(warm, "outcomes"))

    cost = swiftly(story())
    print(f"{mode}: {cost}")
    assert cost == expected
    assert len(cost.warm) <= 1


def test_a_request_waits_for_no_key_that_is_read_again_and_no_registry(started: Start, swiftly: Swiftly) -> None:
    async def story() -> tuple[list[str], list[str]]:
        async with started("limits: {}\n") as process:
            await process.ask()
            await asyncio.sleep(2.9)
            await process.ask()  # the key is read again
            await asyncio.sleep(2.9)
            process.till.held = {"keys", "registry"}
            began = len(process.till.calls)
            await process.asked()  # and now both are, and where the configuration is steered, while nobody answers
            calls, waiting = process.till.calls[began:], sorted(process.till.waiting)
            process.till.release()
        return waited(calls), waiting

    assert swiftly(story()) == ([SEVERAL], [KEY, REGISTRY, REGISTRY])


def test_a_meter_that_a_rival_has_just_moved_takes_one_more_call(started: Start, swiftly: Swiftly) -> None:
    async def story() -> list[str]:
        config = alone("key: {requests_per_minute: 60}")
        async with started(config) as process, started(config) as rival:
            await process.ask()
            await asyncio.sleep(1.5)  # the first request's second is over, and that is what this process knows
            await rival.ask()
            return waited(await process.ask())

    assert swiftly(story()) == [ONE, ONE]


HOUSE = "gateway: {requests_per_minute: 100000, tokens_per_minute: 100000000}"
BUSY = "key: {requests_per_minute: 12000, tokens_per_minute: 100000000}"
DAILY = "budgets: {key: {daily: 10000}}\n"

# Writes and units of the first second, in which blocks grow from one request on, and of the three after it. Steady, a
# block is granted and another settled each second on each meter; two meters' blocks are granted in one transaction.
LEASED = {
    "a key's requests": (alone("key: {requests_per_minute: 12000}"), (7, 7), (3, 3)),
    "a key's requests, tokens": (alone(BUSY), (13, 14), (6, 6)),
    "a key's requests, tokens, budget": (alone(BUSY) + DAILY, (13, 14), (6, 6)),
    "the gateway's and a key's requests, tokens, budget": (alone(f"{HOUSE}, {BUSY}") + DAILY, (19, 42), (9, 18)),
}


@pytest.mark.parametrize("mode", LEASED)
def test_what_a_hundred_requests_a_second_cost_in_leased_mode(mode: str, started: Start, swiftly: Swiftly) -> None:
    config, growing, steady = LEASED[mode]

    async def seconds(process: Process, count: int) -> list[Billed]:
        began = len(process.till.calls)
        async with asyncio.TaskGroup() as requests:
            for _ in range(count * 100):
                requests.create_task(process.asked())
                await asyncio.sleep(0.01)
        return process.till.calls[began:]

    async def story() -> tuple[list[Billed], list[Billed]]:
        async with started(config) as process:
            return await seconds(process, 1), await seconds(process, 3)

    found = swiftly(story())
    print(f"{mode}: {[(writes(calls), units(calls)) for calls in found]}")
    assert [(writes(calls), units(calls)) for calls in found] == [growing, steady]
    assert units(found[1]) < 0.1 * 300


def test_what_polling_costs(started: Start, swiftly: Swiftly) -> None:
    """A job that takes ten minutes, asked for as ``Retry-After`` says, by a client that keeps the ``ETag``."""

    async def story() -> tuple[list[str], list[int], int]:
        async with started(FREE) as process:
            [key] = await process.house.store.list_keys()
            job = Job("job_1", key.id, "chat/completions", b"{}", time.time(), expires_at=time.time() + 10_000)
            await process.house.store.create_job(job)
            await process.house.store.claim_job(job.id, "somebody", now=time.time(), lease=10_000)
            began, statuses, tag = len(process.till.calls), list[int](), ""
            while time.time() < job.created_at + 600:
                answer = await process.client.get(f"/v1/jobs/{job.id}", headers={"if-none-match": tag})
                tag = answer.headers["etag"]
                statuses.append(answer.status_code)
                assert (answer.status_code == 304) == (answer.content == b"")
                await asyncio.sleep(int(answer.headers["retry-after"]))
            calls = [f"{call.action} {call.table}" for call in process.till.calls[began:]]
            return calls, statuses, len(statuses)

    calls, statuses, polls = swiftly(story())
    print(f"{polls} polls, {calls.count('GetItem jobs')} reads of the job, {calls.count(KEY)} of the key")
    assert statuses == [202] + [304] * (polls - 1)
    assert calls.count("GetItem jobs") == polls
    assert calls.count(KEY) <= polls
    assert polls < 40, "Retry-After grows with the job's age"
