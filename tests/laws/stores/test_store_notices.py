"""Laws of notices and duties: what one process says of a place all others read, and a duty is one process's."""

from __future__ import annotations

from dataclasses import replace

from penstock.core.ports import Store
from penstock.schema.notice import BREAKER, CLOSED, DOWN, HEALTH, OPEN, Notice
from tests.laws.stores.records import NOW

OPENED = Notice("org/llama at gpu-1", BREAKER, OPEN, NOW, NOW + 660, "no connection")
SICK = Notice("gpu-1", HEALTH, DOWN, NOW + 0.25, NOW + 90)


async def test_notices_are_read_as_they_were_posted(store: Store) -> None:
    await store.post_notice(OPENED)
    await store.post_notice(SICK)
    assert await store.list_notices(NOW + 1) == [SICK, OPENED]


async def test_of_two_about_the_same_the_later_stands_in_whichever_order_they_come(store: Store) -> None:
    closed = replace(OPENED, state=CLOSED, at=NOW + 60, why="")
    await store.post_notice(closed)
    await store.post_notice(OPENED)
    assert await store.list_notices(NOW) == [closed]
    again = replace(OPENED, at=NOW + 61)
    await store.post_notice(again)
    assert await store.list_notices(NOW) == [again]


async def test_a_notice_may_be_renewed(store: Store) -> None:
    await store.post_notice(SICK)
    await store.post_notice(replace(SICK, until=NOW + 120))
    assert [notice.until for notice in await store.list_notices(NOW)] == [NOW + 120]


async def test_nobody_believes_a_notice_whose_time_is_over(store: Store) -> None:
    await store.post_notice(SICK)
    assert await store.list_notices(NOW + 89.9) == [SICK]
    assert await store.list_notices(NOW + 90) == []


async def test_a_duty_is_held_by_one_until_its_time_is_over(store: Store) -> None:
    assert await store.take_duty("health", "one", now=NOW, until=NOW + 30)
    assert not await store.take_duty("health", "two", now=NOW + 29.9, until=NOW + 60)
    assert await store.take_duty("another", "two", now=NOW, until=NOW + 30)
    assert await store.take_duty("health", "two", now=NOW + 30, until=NOW + 60)
    assert not await store.take_duty("health", "one", now=NOW + 31, until=NOW + 61)


async def test_who_holds_a_duty_may_keep_it(store: Store) -> None:
    assert await store.take_duty("health", "one", now=NOW, until=NOW + 30)
    assert await store.take_duty("health", "one", now=NOW + 20, until=NOW + 50)
    assert not await store.take_duty("health", "two", now=NOW + 49, until=NOW + 80)


async def test_duties_are_no_notices(store: Store) -> None:
    await store.take_duty("health", "one", now=NOW, until=NOW + 30)
    assert await store.list_notices(NOW) == []
