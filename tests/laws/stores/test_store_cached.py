"""Laws of what caches keep: until it expires, and brought by one at a time."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.core.ports import Store
from penstock.core.ports.caching import Cached
from penstock.errors import RequestTooLarge
from tests.laws.stores.conftest import Race
from tests.laws.stores.records import NOW

FEW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FEW
@given(value=st.binary(min_size=1, max_size=3000))
async def test_a_value_comes_back_as_it_was_until_it_expires(store: Store, value: bytes) -> None:
    await store.keep_cached("a", value, now=NOW, expires=NOW + 10.5)
    assert await store.find_cached("a", now=NOW + 10.4) == Cached(value, NOW + 10.5)
    assert await store.find_cached("a", now=NOW + 10.5) is None
    assert await store.find_cached("b", now=NOW) is None


async def test_a_newer_value_takes_the_place_of_an_older_one(store: Store) -> None:
    await store.keep_cached("a", b"one", now=NOW, expires=NOW + 10)
    await store.keep_cached("a", b"two", now=NOW + 1, expires=NOW + 5)
    assert await store.find_cached("a", now=NOW + 2) == Cached(b"two", NOW + 5)


async def test_one_at_a_time_brings_a_value(store: Store) -> None:
    claim = {"now": NOW, "until": NOW + 5, "stale": NOW - 300}
    assert await store.claim_fill("a", "me", **claim)
    assert not await store.claim_fill("a", "you", **claim)
    assert await store.claim_fill("b", "you", **claim), "another key is another matter"
    assert await store.claim_fill("a", "me", now=NOW + 4, until=NOW + 9, stale=NOW - 300), "it may be renewed"
    assert not await store.claim_fill("a", "you", now=NOW + 8, until=NOW + 12, stale=NOW - 300)
    assert await store.find_cached("a", now=NOW) is None, "a claim is no value"


async def test_whoever_died_while_bringing_it_stands_in_nobodys_way(store: Store) -> None:
    assert await store.claim_fill("a", "dead", now=NOW, until=NOW + 5, stale=NOW - 300)
    assert await store.claim_fill("a", "you", now=NOW + 5, until=NOW + 9, stale=NOW - 300)
    await store.release_fill("a", "dead")
    assert not await store.claim_fill("a", "me", now=NOW + 6, until=NOW + 9, stale=NOW - 300)


async def test_whoever_gives_up_lets_another_at_once(store: Store) -> None:
    assert await store.claim_fill("a", "me", now=NOW, until=NOW + 5, stale=NOW - 300)
    await store.release_fill("a", "me")
    assert await store.claim_fill("a", "you", now=NOW, until=NOW + 5, stale=NOW - 300)
    await store.release_fill("never", "me")


async def test_what_is_there_need_not_be_brought(store: Store) -> None:
    await store.claim_fill("a", "me", now=NOW, until=NOW + 5, stale=NOW - 300)
    await store.keep_cached("a", b"one", now=NOW + 1, expires=NOW + 300)
    assert not await store.claim_fill("a", "you", now=NOW + 2, until=NOW + 7, stale=NOW - 298)
    assert await store.claim_fill("a", "you", now=NOW + 2, until=NOW + 7, stale=NOW + 1), "it is too old for you"
    assert await store.find_cached("a", now=NOW + 2), "for others it is not"
    assert not await store.claim_fill("a", "me", now=NOW + 3, until=NOW + 7, stale=NOW + 1)


async def test_what_has_expired_is_to_be_brought_anew(store: Store) -> None:
    await store.keep_cached("a", b"one", now=NOW, expires=NOW + 5)
    assert await store.claim_fill("a", "me", now=NOW + 5, until=NOW + 9, stale=NOW - 300)


async def test_what_is_too_large_is_told_to_be_so_and_changes_nothing(store: Store) -> None:
    await store.keep_cached("a", b"one", now=NOW, expires=NOW + 10)
    with pytest.raises(RequestTooLarge):
        await store.keep_cached("a", bytes(8 * 1024 * 1024 + 1), now=NOW, expires=NOW + 10)
    assert await store.find_cached("a", now=NOW) == Cached(b"one", NOW + 10)
    await store.keep_cached("a", bytes(390_000), now=NOW, expires=NOW + 10)


async def test_pruning_forgets_what_has_expired_and_nothing_else(store: Store) -> None:
    for number in range(4):
        await store.keep_cached(f"old-{number}", b"x", now=NOW, expires=NOW + 1)
    await store.keep_cached("good", b"x", now=NOW, expires=NOW + 99)
    await store.claim_fill("wanted", "me", now=NOW, until=NOW + 50, stale=0.0)
    assert await store.prune_cached(NOW + 2, room=10**9) in (4, 0), "where a TTL does it, it answers 0"
    assert await store.find_cached("good", now=NOW + 2)
    assert not await store.claim_fill("wanted", "you", now=NOW + 2, until=NOW + 50, stale=0.0)


async def test_pruning_keeps_within_its_room_where_it_can(store: Store) -> None:
    for number in range(4):
        await store.keep_cached(f"v-{number}", bytes(1000), now=NOW + number, expires=NOW + 99)
    if await store.prune_cached(NOW + 5, room=2500):
        left = [number for number in range(4) if await store.find_cached(f"v-{number}", now=NOW + 5)]
        assert left == [2, 3], "the oldest go first"


def test_of_sixteen_processes_one_brings_the_value(race: Race) -> None:
    assert sorted(race("claim_fill")) == [False] * 15 + [True]
