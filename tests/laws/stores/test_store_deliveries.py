"""Laws of deliveries: kept once, claimed by one sender at a time, due until they are over."""

from __future__ import annotations

from dataclasses import replace

import pytest

from penstock.core.ports import Store
from penstock.schema.webhook import DELIVERED, FAILED, WAITING, DueDelivery, Sending
from tests.laws.stores.records import LATER, NOW, a_delivery

LEASE = 30.0
ENDS = [(DELIVERED, None), (FAILED, None), (WAITING, NOW + 300)]


async def test_a_delivery_is_kept_once(store: Store) -> None:
    delivery = a_delivery()
    assert await store.create_delivery(delivery)
    assert not await store.create_delivery(replace(delivery, body=b"another"))
    assert await store.find_delivery(delivery.id) == delivery
    assert await store.find_delivery("dlv_nobody") is None


async def test_a_delivery_that_is_due_is_claimed_for_the_length_of_a_lease(store: Store) -> None:
    delivery = a_delivery()
    await store.create_delivery(delivery)
    claimed = await store.claim_delivery(delivery.id, "sender-1", now=NOW, lease=LEASE)
    assert claimed == replace(delivery, sender="sender-1", due_at=NOW + LEASE)
    assert await store.claim_delivery(delivery.id, "sender-2", now=NOW + LEASE - 1, lease=LEASE) is None
    taken = await store.claim_delivery(delivery.id, "sender-2", now=NOW + LEASE, lease=LEASE)
    assert taken == replace(delivery, sender="sender-2", due_at=NOW + 2 * LEASE)


async def test_what_is_not_due_is_not_claimed(store: Store) -> None:
    later, over = a_delivery(due_at=NOW + 5), a_delivery(due_at=None, status=DELIVERED)
    for delivery in (later, over):
        await store.create_delivery(delivery)
        assert await store.claim_delivery(delivery.id, "sender-1", now=NOW, lease=LEASE) is None
    assert await store.claim_delivery("dlv_nobody", "sender-1", now=NOW, lease=LEASE) is None
    assert await store.find_delivery("dlv_nobody") is None


@pytest.mark.parametrize(("status", "due_at"), ENDS, ids=[status for status, _ in ENDS])
async def test_its_sender_writes_what_became_of_it(store: Store, status: str, due_at: float | None) -> None:
    delivery = a_delivery()
    await store.create_delivery(delivery)
    claimed = await store.claim_delivery(delivery.id, "sender-1", now=NOW, lease=LEASE)
    assert claimed is not None
    said = (Sending(NOW, 204, 0.25), Sending(NOW + 1, 0, 20.0, "no answer"))
    after = replace(claimed, status=status, due_at=due_at, tries=1, log=said, expires_at=LATER + 5)
    assert await store.settle_delivery(after, "sender-1")
    assert await store.find_delivery(delivery.id) == replace(after, sender="")
    assert not await store.settle_delivery(after, "sender-1")


async def test_a_sender_that_was_succeeded_writes_nothing(store: Store) -> None:
    delivery = a_delivery()
    await store.create_delivery(delivery)
    claimed = await store.claim_delivery(delivery.id, "sender-1", now=NOW, lease=LEASE)
    taken = await store.claim_delivery(delivery.id, "sender-2", now=NOW + LEASE, lease=LEASE)
    assert claimed is not None
    assert not await store.settle_delivery(replace(claimed, status=FAILED, due_at=None), "sender-1")
    assert await store.find_delivery(delivery.id) == taken
    assert not await store.settle_delivery(a_delivery(id="dlv_nobody"), "sender-1")


async def test_deliveries_whose_time_has_come_are_due_the_longest_overdue_first(store: Store) -> None:
    deliveries = [a_delivery(due_at=NOW + number, webhook_id=f"wh_{number}") for number in range(8)]
    for delivery in reversed(deliveries):
        await store.create_delivery(delivery)
    await store.create_delivery(a_delivery(due_at=None))
    due = await store.due_deliveries(NOW + 5, limit=10)
    assert due == [DueDelivery(delivery.id, NOW + n, f"wh_{n}") for n, delivery in enumerate(deliveries[:6])]
    assert await store.due_deliveries(NOW + 5, limit=3) == due[:3]
    assert await store.due_deliveries(NOW - 1, limit=10) == []


async def test_a_delivery_is_postponed_by_one_of_all_who_saw_it(store: Store) -> None:
    delivery = a_delivery()
    await store.create_delivery(delivery)
    assert await store.postpone_delivery(delivery.id, seen=NOW, due_at=NOW + 60)
    assert not await store.postpone_delivery(delivery.id, seen=NOW, due_at=NOW + 90)
    assert await store.due_deliveries(NOW + 59, limit=10) == []
    assert len(await store.due_deliveries(NOW + 60, limit=10)) == 1
    assert not await store.postpone_delivery("dlv_nobody", seen=NOW, due_at=NOW)


@pytest.mark.parametrize(("status", "due_at"), ENDS, ids=[status for status, _ in ENDS])
async def test_a_delivery_that_nobody_is_at_is_begun_anew(store: Store, status: str, due_at: float | None) -> None:
    delivery = a_delivery(status=status, due_at=due_at, tries=7, log=(Sending(NOW, 500, 1.0, "no"),))
    await store.create_delivery(delivery)
    assert await store.restart_delivery(delivery.id, now=NOW + 9)
    again = replace(delivery, status=WAITING, due_at=NOW + 9, tries=0)
    assert await store.find_delivery(delivery.id) == again
    assert await store.count_waiting("wh_1", limit=5) == 1
    assert await store.claim_delivery(delivery.id, "sender-1", now=NOW + 9, lease=LEASE) is not None


async def test_a_delivery_under_way_is_not_begun_anew_until_its_sender_is_taken_for_dead(store: Store) -> None:
    delivery = a_delivery()
    await store.create_delivery(delivery)
    claimed = await store.claim_delivery(delivery.id, "sender-1", now=NOW, lease=LEASE)
    assert not await store.restart_delivery(delivery.id, now=NOW + LEASE - 1)
    assert await store.find_delivery(delivery.id) == claimed
    assert await store.restart_delivery(delivery.id, now=NOW + LEASE)
    assert not await store.restart_delivery("dlv_nobody", now=NOW)


async def test_a_webhook_s_deliveries_are_listed_the_newest_first(store: Store) -> None:
    mine = [a_delivery(created_at=NOW + number, body=b"%d" % number) for number in range(5)]
    for delivery in (*mine, a_delivery(webhook_id="wh_2")):
        await store.create_delivery(delivery)
    assert await store.list_deliveries("wh_1", before=LATER, limit=10) == mine[::-1]
    assert await store.list_deliveries("wh_1", before=LATER, limit=2) == mine[:2:-1]
    assert await store.list_deliveries("wh_1", before=NOW + 2, limit=10) == mine[1::-1]
    assert await store.list_deliveries("wh_3", before=LATER, limit=10) == []


async def test_those_that_wait_are_counted_up_to_a_limit(store: Store) -> None:
    for number in range(4):
        await store.create_delivery(a_delivery(due_at=NOW + number))
    await store.create_delivery(a_delivery(due_at=None, status=FAILED))
    await store.create_delivery(a_delivery(webhook_id="wh_2"))
    assert await store.count_waiting("wh_1", limit=10) == 4
    assert await store.count_waiting("wh_1", limit=3) == 3
    (first, *_) = await store.due_deliveries(NOW, limit=1)
    claimed = await store.claim_delivery(first.id, "sender-1", now=NOW, lease=LEASE)
    assert claimed is not None
    assert await store.count_waiting(claimed.webhook_id, limit=10) == (4 if claimed.webhook_id == "wh_1" else 1)
    await store.settle_delivery(replace(claimed, status=DELIVERED, due_at=None), "sender-1")
    assert await store.count_waiting(claimed.webhook_id, limit=10) == (3 if claimed.webhook_id == "wh_1" else 0)


async def test_what_has_expired_is_forgotten_and_nothing_else(store: Store) -> None:
    gone, kept = a_delivery(expires_at=NOW + 60), a_delivery(expires_at=NOW + 90)
    for delivery in (gone, kept):
        await store.create_delivery(delivery)
    assert await store.prune_deliveries(NOW + 60) in (0, 1), "0 where the backend forgets by itself"
    assert await store.find_delivery(kept.id) == kept
