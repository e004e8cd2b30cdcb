"""Every plug of ``caches`` keeps the laws that both stores keep, and is quickly done without when it is away."""

from __future__ import annotations

import time

import pytest

from penstock.caches.redis import RedisBacking
from penstock.core.cache.cache import FAILURES, Cache
from penstock.errors import StateError
from tests.laws.caches.conftest import RedisServer
from tests.laws.stores.records import NOW
from tests.laws.stores.test_store_cached import (  # noqa: F401 - the same laws, at other places
    test_a_newer_value_takes_the_place_of_an_older_one,
    test_a_value_comes_back_as_it_was_until_it_expires,
    test_one_at_a_time_brings_a_value,
    test_what_has_expired_is_to_be_brought_anew,
    test_what_is_there_need_not_be_brought,
    test_what_is_too_large_is_told_to_be_so_and_changes_nothing,
    test_whoever_died_while_bringing_it_stands_in_nobodys_way,
    test_whoever_gives_up_lets_another_at_once,
)


async def test_the_server_itself_forgets_what_has_expired(redis_server: RedisServer, store: RedisBacking) -> None:
    await store.keep_cached("a", b"one", now=NOW, expires=NOW + 0.01)
    await store.claim_fill("b", "me", now=NOW, until=NOW + 5, stale=0.0)
    async with store._redis as client:
        assert 0 < await client.pttl("penstock:cached:b") <= 65_000
        end = time.monotonic() + 10
        while await client.exists("penstock:cached:a"):
            assert time.monotonic() < end


async def test_a_server_that_goes_away_costs_little_and_is_used_again(redis_server: RedisServer) -> None:
    backing = RedisBacking(redis_server.url)
    cache = Cache("test", room=10**6, ttl=60.0, backing=backing)
    assert await cache.put("a", b"one")
    redis_server.stop()
    began = time.perf_counter()
    for number in range(100):
        assert await cache.get(f"b{number}") is None
    assert await cache.get("a") == b"one", "this process has it all the same"
    assert time.perf_counter() - began < FAILURES * 1.0
    with pytest.raises(StateError, match="Redis did not answer"):
        await backing.find_cached("a", now=NOW)
    redis_server.start()
    cache._away_until = 0.0
    assert await cache.put("c", b"three")
    assert await Cache("other", room=10**6, ttl=60.0, backing=backing).get("c") == b"three"
    await backing.close()
