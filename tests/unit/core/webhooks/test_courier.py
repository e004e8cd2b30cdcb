"""The courier's patience: when it tries again, when it gives up, whom it leaves alone, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from penstock.core.keys import Keyring
from penstock.core.ports import Reply, Store
from penstock.core.webhooks import courier as couriers
from penstock.core.webhooks.announcer import Announcer, Event
from penstock.core.webhooks.courier import PAUSES, Courier
from penstock.errors import AddressRefused, UpstreamUnavailable
from penstock.schema.webhook import DELIVERED, EVENTS, FAILED, WAITING, Delivery, Webhook, Webhooks
from penstock.stores import sqlite
from tests.laws.stores.records import a_webhook
from tests.unit.memory import Clock

DAY = 86_400.0
TIMEOUT = 20.0
SCHEDULE = [0, 5, 305, 2105, 9305, 27305, 63305, 113705, 185705, 272105]
"""Seconds since the start at which the specification tries."""


class Receiver:
    """An outlet whose other end answers what a test wants."""

    def __init__(self) -> None:
        self.answer: Callable[[str], Awaitable[Reply]] = self.well
        self.posted: list[str] = []

    async def well(self, url: str) -> Reply:
        return Reply(204)

    async def post(self, url: str, headers: Sequence[tuple[str, str]], body: bytes, *, timeout: float) -> Reply:
        self.posted.append(url)
        return await self.answer(url)


def always(status: int, retry_after: float | None = None) -> Callable[[str], Awaitable[Reply]]:
    async def answer(_: str) -> Reply:
        return Reply(status, retry_after)

    return answer


def raising(error: Exception) -> Callable[[str], Awaitable[Reply]]:
    async def answer(_: str) -> Reply:
        raise error

    return answer


class Office:
    """A courier, the store it works on, and a clock that goes on only when a test says so."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.receiver = Receiver()
        outlet: Any = self.receiver
        self.courier = Courier(store, outlet, Keyring(store, {}), timeout=TIMEOUT, eager=False)
        self.announcer = Announcer(store, self.courier, backlog=10_000)

    async def register(self, **differs: Any) -> Webhook:
        webhook = a_webhook(created_at=self.clock.now, **differs)
        found = await self.store.load_webhooks("key")
        await self.store.replace_webhooks(Webhooks("key", found.revision + 1, (*found.each, webhook)))
        return webhook

    async def announce(self, subject: str = "job_1") -> None:
        await self.announcer.announce(Event("key", EVENTS[0], subject, self.clock.now, {"id": subject}))

    async def delivery(self, webhook: Webhook) -> Delivery:
        (found,) = await self.store.list_deliveries(webhook.id, before=1e11, limit=1)
        return found

    async def webhook(self) -> Webhook:
        (found,) = (await self.store.load_webhooks("key")).each
        return found


@pytest.fixture
async def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Office]:
    clock = Clock()
    for module in ("courier", "announcer"):
        monkeypatch.setattr(f"penstock.core.webhooks.{module}.time", clock)
    monkeypatch.setattr(couriers, "JITTER", 0.0)
    store = sqlite.connect(f"sqlite:///{tmp_path}/state.db", None)
    await store.open()
    office = Office(store, clock)
    yield office
    await office.courier.close()
    await store.close()


async def test_it_tries_at_the_times_of_the_specification_and_then_no_more(office: Office) -> None:
    office.receiver.answer = always(500)
    webhook, began = await office.register(), office.clock.now
    await office.announce()
    tried = []
    while (delivery := await office.delivery(webhook)).status == WAITING:
        assert delivery.due_at is not None
        office.clock.now = delivery.due_at
        tried.append(round(office.clock.now - began))
        assert await office.courier.turn() == 1
    assert tried == SCHEDULE
    assert (delivery.status, len(delivery.log)) == (FAILED, 10)


async def test_chance_adds_up_to_a_tenth(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(couriers, "JITTER", 0.1)
    office.receiver.answer = always(500)
    webhook = await office.register()
    for number in range(20):
        await office.announce(f"job_{number}")
    await office.courier.turn()
    made = await office.store.list_deliveries(webhook.id, before=1e11, limit=20)
    waits = {(delivery.due_at or 0.0) - office.clock.now for delivery in made}
    assert all(PAUSES[0] <= wait <= 1.1 * PAUSES[0] for wait in waits)
    assert len(waits) > 10


@pytest.mark.parametrize(("after", "pause"), [(2.0, 5.0), (3600.0, 3600.0)])
async def test_retry_after_is_a_floor(office: Office, after: float, pause: float) -> None:
    office.receiver.answer = always(429, after)
    webhook = await office.register()
    await office.announce()
    await office.courier.turn()
    assert (await office.delivery(webhook)).due_at == office.clock.now + pause


async def test_a_webhook_that_fails_for_three_days_is_disabled_unless_something_arrives(office: Office) -> None:
    office.receiver.answer = always(500)
    await office.register()
    await office.announce("job_1")
    await office.courier.turn()
    began = office.clock.now
    assert (await office.webhook()).failing_since == began
    office.clock.now += 2 * DAY
    office.receiver.answer = always(200)
    await office.announce("job_2")
    await office.courier.turn()
    assert (await office.webhook()).failing_since is None
    office.receiver.answer = always(500)
    for day in range(4):
        await office.announce(f"job_{day + 3}")
        await office.courier.turn()
        assert ((await office.webhook()).disabled_at is not None) is (day == 3)
        office.clock.now += DAY
    assert "every delivery since" in (await office.webhook()).disabled_because


async def test_a_failure_that_is_remembered_writes_nothing_more(office: Office) -> None:
    office.receiver.answer = always(500)
    await office.register()
    for number in range(5):
        await office.announce(f"job_{number}")
    await office.courier.turn()
    assert (await office.store.load_webhooks("key")).revision == 2


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UpstreamUnavailable("cannot be reached: refused", where="10.0.0.7:443"), "it cannot be reached: refused"),
        (
            AddressRefused("has an address that is not allowed", where="h:443 (10.0.0.7)"),
            "it has an address that is not",
        ),
    ],
)
async def test_the_log_tells_no_address_of_the_inside(office: Office, error: Exception, reason: str) -> None:
    office.receiver.answer = raising(error)
    webhook = await office.register()
    await office.announce()
    await office.courier.turn()
    (said,) = (await office.delivery(webhook)).log
    assert said.reason.startswith(reason)
    assert "10.0.0.7" not in said.reason


async def test_no_more_than_four_are_on_their_way_to_one_webhook_and_others_go_past(office: Office) -> None:
    held = asyncio.Event()

    async def slow(url: str) -> Reply:
        if "slow" in url:
            await held.wait()
        return Reply(204)

    office.receiver.answer = slow
    await office.register(url="https://slow.example/")
    other = await office.register(url="https://well.example/")
    for number in range(8):
        await office.announce(f"job_{number}")
    turn = asyncio.ensure_future(office.courier.turn())
    async with asyncio.timeout(10):
        while office.receiver.posted.count(other.url) < 8:  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.001)
    assert office.receiver.posted.count("https://slow.example/") == 4
    held.set()
    assert await turn == 16


async def test_what_waits_behind_one_that_is_away_is_put_off_untried(office: Office) -> None:
    office.receiver.answer = raising(UpstreamUnavailable("cannot be reached"))
    webhook = await office.register()
    for number in range(10):
        await office.announce(f"job_{number}")
    assert await office.courier.turn() == 4
    tried = await office.store.list_deliveries(webhook.id, before=1e11, limit=20)
    assert sorted(len(delivery.log) for delivery in tried) == [0] * 6 + [1] * 4
    assert await office.store.due_deliveries(office.clock.now, limit=20) == []


async def test_after_its_rest_it_is_tried_by_one_at_a_time_until_it_answers(office: Office) -> None:
    office.receiver.answer = raising(UpstreamUnavailable("cannot be reached"))
    webhook = await office.register()
    for number in range(10):
        await office.announce(f"job_{number}")
    assert await office.courier.turn() == 4
    office.clock.now += couriers.REST + 1
    assert await office.courier.turn() == 1
    office.receiver.answer = always(204)
    office.clock.now += TIMEOUT + 1
    assert await office.courier.turn() == 1
    office.clock.now += PAUSES[1]
    assert await office.courier.turn() == 9
    made = await office.store.list_deliveries(webhook.id, before=1e11, limit=20)
    assert {delivery.status for delivery in made} == {DELIVERED}


async def test_a_turn_that_takes_long_begins_nothing_more(office: Office) -> None:
    async def long(_: str) -> Reply:
        office.clock.now += couriers.LONGEST + 1
        return Reply(204)

    office.receiver.answer = long
    await office.register()
    for number in range(10):
        await office.announce(f"job_{number}")
    assert await office.courier.turn() <= 4
    assert await office.store.due_deliveries(office.clock.now, limit=20) != []


async def test_what_is_under_way_is_let_end_when_the_process_does(office: Office) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def waiting(_: str) -> Reply:
        begun.set()
        await go.wait()
        return Reply(204)

    office.receiver.answer = waiting
    webhook = await office.register()
    await office.announce()
    turn = asyncio.ensure_future(office.courier.turn())
    await begun.wait()
    closing = asyncio.ensure_future(office.courier.close())
    go.set()
    await closing
    await turn
    assert (await office.delivery(webhook)).status == DELIVERED


async def test_what_does_not_end_in_time_is_sent_again_later(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(couriers, "GRACE", 0.01)
    begun = asyncio.Event()

    async def never(_: str) -> Reply:
        begun.set()
        await asyncio.Event().wait()
        return Reply(204)

    office.receiver.answer = never
    webhook = await office.register()
    await office.announce()
    turn = asyncio.ensure_future(office.courier.turn())
    await begun.wait()
    await office.courier.close()
    assert await turn == 0
    waiting = await office.delivery(webhook)
    assert (waiting.status, waiting.due_at) == (WAITING, office.clock.now + 30)
