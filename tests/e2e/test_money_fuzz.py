"""Money, rates and slots hold exactly on eight processes and a thousand clients, while processes are killed at random.

``PENSTOCK_TEST_LONG=1`` runs minutes instead of seconds, ``PENSTOCK_TEST_SEED`` throws the same dice again.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from penstock import plugs
from penstock.core.ports import Store
from penstock.outbound import HttpClient
from penstock.schema.limit import MINUTE, NO_BUDGET
from penstock.schema.meter import SECOND
from penstock.schema.outcome import Outcome
from penstock.stores.dynamodb import connection as dynamodb
from penstock.stores.sqlite import connection as sqlite
from tests.e2e.money.calls import Call
from tests.e2e.money.clients import Load
from tests.e2e.money.gateways import Fleet
from tests.e2e.money.laws import Taken, most_at_once, overshoot
from tests.e2e.money.scene import DEAD, Account, Scale, accounts, clients, configuration
from tests.e2e.money.upstream import upstream
from tests.e2e.server import PATIENCE, ROOT

LONG = bool(os.environ.get("PENSTOCK_TEST_LONG"))
SECONDS = 300.0 if LONG else 12.0
PROCESSES, PEOPLE = 8, 1000
DIGEST = 300 * SECOND
"""After the end of the last request's hold, in nanoseconds from the end of the run."""
AT_ONCE = {"sqlite": 64, "dynamodb": 12}
"""Calls that are open at a time: a double of DynamoDB is slow, and its clients wait in turn."""
SCALE = {"sqlite": Scale(), "dynamodb": Scale(rates=15, dollars=6)}

pytestmark = pytest.mark.timeout(SECONDS + 280)


@pytest.fixture(params=["sqlite", "dynamodb"])
def state(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a new state that many processes share."""
    for module, names in ((sqlite, ("BUDGET", "PATIENCE")), (dynamodb, ("BUDGET", "ATTEMPT"))):
        for name in names:
            monkeypatch.setattr(module, name, PATIENCE)  # of the one who looks; the gateways keep theirs
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/state.db"
        return
    name = f"dynamodb://fuzz-{uuid.uuid4().hex[:12]}?region=eu-west-1&endpoint="
    if elsewhere := os.environ.get("PENSTOCK_TEST_DYNAMODB_ENDPOINT"):
        yield name + elsewhere
        return
    command = [sys.executable, "-m", "tests.laws.stores.moto_server"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield name + server.stdout.readline().strip()
        server.kill()


@dataclass(slots=True)
class Run:
    """What there is to look at once the traffic is over."""

    store: Store
    fleet: Fleet
    load: Load
    accounts: list[Account]
    looks: int = 0

    @property
    def calls(self) -> list[Call]:
        """Every call that was made."""
        return [call for call in self.load.calls.values() if call.sent]

    async def look(self) -> None:
        """Look at every meter: no more than its limits is taken, and no less than was certainly served."""
        served: Counter[str] = Counter()
        for call in self.calls:
            served[call.client.key.id] += call.certain
        for account in self.accounts:
            meter = await self.store.read_meter(account.meter)
            account.look(meter, time.time_ns())
            if account.budget.total:
                least = sum(served[client.key.id] for client in account.clients)
                assert least <= meter.spent.get("total", 0), f"{account.meter} served {least}: {meter}"
            self.looks += 1

    async def watch(self, pause: float) -> None:
        """Look again and again, and leave most of the time to others.

        A hold that is lost is seen in the last seconds before a reaper ends it, ``DEAD``: no pause is as long as that.
        """
        while True:
            began = time.monotonic()
            await self.look()
            await asyncio.sleep(max(pause, min(4 * (time.monotonic() - began), DEAD / SECOND / 4)))


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    client = HttpClient()
    store: Store = plugs.load("stores", url.partition(":")[0]).connect(url, client)
    await store.open()
    yield store
    await store.close()
    await client.aclose()


async def test_nothing_leaks_whatever_dies(state: str, tmp_path: Path) -> None:
    backend = state.partition(":")[0]
    scale = SCALE[backend]
    seed = int(os.environ.get("PENSTOCK_TEST_SEED") or random.SystemRandom().randrange(10**9))
    print(f"PENSTOCK_TEST_SEED={seed}")
    dice = random.Random(seed)
    async with opened(state) as store:
        made = await clients(store, scale)
        calls: dict[int, Call] = {}
        async with upstream(calls) as address:
            fleet = Fleet(tmp_path, state, configuration(address, scale), PROCESSES)
            load = Load(calls, made, fleet, dice, AT_ONCE[backend])
            run = Run(store, fleet, load, accounts(made, scale))
            try:
                await fleet.open()
                await rage(run, dice, backend)
                await nothing_is_held(run)
                outcomes = await ledger(store)
                every_call_is_accounted_for(run, outcomes)
                for account in run.accounts:
                    await money_is_exact(run, account, outcomes)
                rates_held(run)
                slots_held(run)
                await fleet.start()
                for account in run.accounts:
                    await all_of_it_can_be_used(run, account)
                await fleet.close()
            finally:
                fleet.kill()
            tell(run, backend)


async def rage(run: Run, dice: random.Random, backend: str) -> None:
    """Let people call while gateways are killed, then stop all gateways, and look at the meters all the time."""
    watching = asyncio.create_task(run.watch(0.1 if backend == "sqlite" else 1.0))
    for traffic in ((run.load.run(PEOPLE, SECONDS), run.fleet.torment(dice, SECONDS / 12)), (run.fleet.close(),)):
        tasks = [watching, *map(asyncio.create_task, traffic)]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks[1:]:
            task.cancel()
        for task in done:
            task.result()
        await asyncio.gather(*tasks[1:], return_exceptions=True)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def ledger(store: Store) -> dict[str, Outcome]:
    """Every outcome by its request's id."""
    return {outcome.request_id: outcome for outcome in await store.list_outcomes(limit=10**6)}


async def nothing_is_held(run: Run) -> None:
    """Holds are left only by the killed, or where the store is said to have failed; after their expiry, by nobody."""
    await run.look()
    by_request = {call.request_id: call for call in run.calls if call.arrivals}
    left = set()
    for account in run.accounts:
        for hold in (await run.store.read_meter(account.meter)).holds.values():
            call = by_request.get(hold.id.partition(".")[0])
            if call is not None:
                assert call.gateway is not None
                assert call.gateway.excused, f"{call.gateway.server.folder.name} ended well, but left {hold} of {call}"
            account.lost[hold.id] = hold
            left.add((hold.id, hold.meter))
    ended = await run.store.end_expired(time.time_ns() + DIGEST)
    assert {(hold.id, hold.meter) for hold in ended} >= left
    assert await run.store.end_expired(time.time_ns() + DIGEST) == []
    for account in run.accounts:
        meter = await run.store.read_meter(account.meter)
        assert (meter.holds, meter.slots) == ({}, 0), account.meter
    await run.look()


def every_call_is_accounted_for(run: Run, outcomes: dict[str, Outcome]) -> None:
    """Each call that a gateway finished is in the ledger, at the price of what the upstream did for it."""
    for call in run.calls:
        if not call.arrivals:
            continue
        assert call.gateway is not None
        outcome = outcomes.get(call.request_id)
        if outcome is None:
            assert call.gateway.excused, f"not in the ledger: {call}"
            continue
        cost = outcome.cost_nanos
        assert cost is not None
        if call.client.key.budget != NO_BUDGET:  # else what an answer came to that nobody waited for is not reckoned
            assert call.certain <= cost <= call.bound, f"{call}: {outcome}"
        if call.whole:
            assert cost == call.served, f"{call}: {outcome}"


async def money_is_exact(run: Run, account: Account, outcomes: dict[str, Outcome]) -> None:
    """Spent is what the ledger says, what was lost, and what killed processes settled but did not write down."""
    if not account.budget.total and not account.budget.daily:
        return
    meter = await run.store.read_meter(account.meter)
    for window, spent in meter.spent.items():
        assert spent <= account.ceiling(window)
    calls = account.calls(run.calls)
    lost_requests = {name.partition(".")[0] for name in account.lost}
    lost = sum(hold.nanos for hold in account.lost.values())
    served = sum(call.served if call.request_id in lost_requests else call.certain for call in calls)
    spent = sum(spent for window, spent in meter.spent.items() if (window == "total") == bool(account.budget.total))
    assert served <= spent, account.meter
    told = {call: outcomes[call.request_id].cost_nanos or 0 for call in calls if call.request_id in outcomes}
    untold = [call for call in calls if call not in told]
    settled = [call for call in untold if call.request_id not in lost_requests]
    if account.exact:  # a request has one hold: it is either settled or lost
        least = lost + sum(cost for call, cost in told.items() if call.request_id not in lost_requests)
        most = least + sum(call.bound for call in settled)
        least += sum(call.certain for call in settled)
    else:  # a block is lost as a whole, also what is in the ledger of it
        least = lost + sum(cost for call, cost in told.items() if call.gateway and not call.gateway.killed)
        most = lost + sum(told.values()) + sum(call.bound for call in untold)
    assert least <= spent <= most, (account.meter, least, spent, most, account.lost, settled)


def rates_held(run: Run) -> None:
    """In every window of time no more arrived, and no more tokens were used, than burst and rate allow."""
    for account in run.accounts:
        limits = account.clients[0].key.limits
        if len(account.clients) > 1 or limits is None:
            continue
        calls = account.calls(run.calls)
        if limits.requests_per_minute:
            interval = -(-MINUTE // limits.requests_per_minute)
            taken = [Taken(call.sent, call.arrivals[0], interval) for call in calls]
            over = overshoot(taken, interval * limits.at_once)
            assert over <= 0, f"{account.clients[0].key.description}: {over / interval:g} requests too many"
        if limits.tokens_per_minute:
            interval = -(-MINUTE // limits.tokens_per_minute)
            taken = [Taken(call.sent, call.ended, call.usage * interval) for call in calls if call.ended]
            over = overshoot(taken, interval * limits.tokens_per_minute)
            assert over <= 0, f"{account.clients[0].key.description}: {over / interval:g} tokens too many"


def slots_held(run: Run) -> None:
    """Never were more calls open at the upstream than there are slots."""
    for account in run.accounts:
        if account.slots:
            most = most_at_once(call.under_way for call in account.calls(run.calls))
            assert most <= account.slots, f"{account.meter}: {most} at once of {account.slots}"


async def all_of_it_can_be_used(run: Run, account: Account) -> None:
    """Nobody starves: each key is served, and a budget is used until what is left is too little for one call more."""
    client = account.clients[0]
    limits = client.key.limits
    if limits is not None and limits.tokens_per_minute and account.lost:
        return  # the tokens of its lost holds count as used when those expire, which is yet to come
    end = time.monotonic() + PATIENCE
    while True:
        call = run.load.new(client, tokens=200)
        await run.load.make(call)
        if call.status == 200 and not account.budget.total and not account.budget.daily:
            return
        if call.code == "insufficient_quota":
            break
        assert time.monotonic() < end, f"{client.key.description} is not served: {call}"
        await asyncio.sleep(call.retry_after)
    for paying in run.accounts:
        if client in paying.clients:
            meter = await run.store.read_meter(paying.meter)
            assert meter.holds == {}, meter
            if any(paying.ceiling(window) - spent < call.bound for window, spent in meter.spent.items()):
                return
    pytest.fail(f"{client.key.description} was refused though there is money")


def tell(run: Run, backend: str) -> None:
    """The numbers of the run, for people."""
    arrived = Counter(call.client.key.description for call in run.calls if call.arrivals)
    told = {f"{status} {code}".strip(): count for (status, code), count in sorted(run.load.told.items())}
    print(f"{backend}: {len(run.calls)} calls, {run.load.broken} broken, {run.fleet.kills} kills, {run.looks} looks")
    print(f"answers: {told}")
    print(f"served: {dict(arrived)}")
    print(f"lost holds: { {a.meter: len(a.lost) for a in run.accounts if a.lost} }")
