"""Laws of alerts: all that is kept under a rule's name is replaced together, revision by revision."""

from __future__ import annotations

from dataclasses import replace

import pytest

from penstock.core.alerts.judging import judge
from penstock.core.ports import Store
from penstock.errors import StateConflict
from penstock.schema.alert import Rule, Watch

RULE = Rule("slow", "summary.avg_response_time", ">=", 2.5, "it is slow", "critical", channels=("log", "email"))


def firing(name: str = "slow", revision: int = 1) -> Watch:
    return judge(Watch(name, revision, replace(RULE, name=name)), RULE, 4.0, 1000.5)


async def test_what_nobody_wrote_is_not_there(store: Store) -> None:
    assert await store.find_watch("slow") is None
    assert await store.list_watches() == []


async def test_a_watch_comes_back_as_it_was(store: Store) -> None:
    fired = firing()
    await store.replace_watch(fired)
    assert await store.find_watch("slow") == fired
    over = replace(judge(fired, RULE, 1.0, 2000.0), revision=2)
    await store.replace_watch(over)
    assert await store.find_watch("slow") == over
    assert await store.list_watches() == [over]


async def test_watches_are_listed_by_name(store: Store) -> None:
    for name in ("b", "c", "a"):
        await store.replace_watch(firing(name))
    assert [watch.name for watch in await store.list_watches()] == ["a", "b", "c"]


@pytest.mark.parametrize("revision", [1, 2, 4])
async def test_no_revision_is_written_twice_or_left_out(store: Store, revision: int) -> None:
    await store.replace_watch(firing())
    kept = firing(revision=2)
    await store.replace_watch(kept)
    with pytest.raises(StateConflict):
        await store.replace_watch(Watch("slow", revision))
    assert await store.find_watch("slow") == kept


async def test_the_first_revision_is_the_first(store: Store) -> None:
    with pytest.raises(StateConflict):
        await store.replace_watch(firing(revision=2))


async def test_a_watch_is_removed_only_as_it_was_seen(store: Store) -> None:
    await store.replace_watch(firing())
    await store.replace_watch(firing(revision=2))
    assert not await store.remove_watch(firing())
    assert await store.find_watch("slow") is not None
    assert await store.remove_watch(firing(revision=2))
    assert await store.find_watch("slow") is None
    assert not await store.remove_watch(firing(revision=2))
    await store.replace_watch(firing())
