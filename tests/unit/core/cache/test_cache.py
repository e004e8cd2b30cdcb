"""A cache: memory in front of what processes share, and nobody waits long for either."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.cache import cache as caches
from penstock.core.cache.cache import Cache
from penstock.core.cache.keys import key_of
from tests.unit.core.cache.backings import Behind

ROOM = 10**7


def a_cache(behind: Behind | None = None, **differs: object) -> Cache:
    return Cache("test", **({"room": ROOM, "ttl": 60.0, "backing": behind} | differs))  # type: ignore[arg-type]


@pytest.mark.parametrize("compression", [True, False])
@pytest.mark.parametrize("value", [b"", b"short", b"long " * 1000, bytes(300_000)])
async def test_a_value_comes_back_as_it_was(value: bytes, compression: bool) -> None:
    behind = Behind()
    await a_cache(behind, compression=compression).put("a", value)
    assert await a_cache(behind).get("a") == value, "from what is shared"
    alone = a_cache(compression=compression)
    await alone.put("a", value)
    assert await alone.get("a") == value, "from memory"


async def test_compression_makes_it_smaller() -> None:
    plain, packed = a_cache(compression=False), a_cache()
    for cache in (plain, packed):
        await cache.put("a", b"the same words " * 1000)
    assert packed.status().bytes < plain.status().bytes / 5


async def test_what_another_process_kept_is_in_memory_afterwards() -> None:
    behind = Behind()
    await a_cache(behind).put("a", b"one")
    cache = a_cache(behind)
    await cache.get("a")
    calls = behind.calls
    assert await cache.get("a") == b"one"
    assert behind.calls == calls


async def test_nobody_keeps_it_longer_than_it_was_given() -> None:
    behind = Behind()
    await a_cache(behind).put("a", b"one", ttl=0.0)
    assert await a_cache(behind).get("a") is None
    cache = a_cache(ttl=0.0)
    await cache.put("a", b"one")
    assert await cache.get("a") is None


async def test_what_is_too_large_to_share_is_kept_in_memory() -> None:
    cache = a_cache(Behind(largest=10))
    await cache.put("a", b"more than ten bytes of it")
    assert await cache.get("a") == b"more than ten bytes of it"


async def test_what_cannot_be_unpacked_is_not_there() -> None:
    behind = Behind()
    await behind.keep_cached("a", b"\x01no zlib", now=0.0, expires=time.time() + 60)
    assert await a_cache(behind).get("a") is None


async def test_when_what_is_behind_is_away_nobody_notices() -> None:
    behind = Behind(away=True)
    cache = a_cache(behind)
    await cache.put("a", b"one")
    assert await cache.get("a") == b"one"
    assert await cache.get("b") is None
    assert await cache.claim("b", "me", seconds=5, stale=0.0)
    await cache.release("b", "me")


async def test_what_is_away_is_left_alone_and_then_tried_by_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(caches.time, "monotonic", lambda: now[0])
    behind = Behind(away=True)
    cache = a_cache(behind)
    for _ in range(20):
        await cache.get("b")
    assert behind.calls == caches.FAILURES
    now[0] += caches.PAUSE
    for _ in range(20):
        await cache.get("b")
    assert behind.calls == caches.FAILURES + 1
    behind.away = False
    now[0] += caches.LONGEST
    await cache.put("b", b"back")
    assert await a_cache(behind).get("b") == b"back"


async def test_what_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "PATIENCE", 0.01)
    cache = a_cache(Behind(hanging=True))
    began = time.perf_counter()
    for _ in range(20):
        assert await cache.get("a") is None
    assert time.perf_counter() - began < 5


async def test_it_tells_how_often_it_helped() -> None:
    cache = a_cache()
    assert cache.status().hit_rate == 0.0
    await cache.put("a", b"one")
    await cache.get("a")
    await cache.get("b")
    status = cache.status()
    assert (status.entries, status.hits, status.misses, status.hit_rate) == (1, 1, 1, 0.5)


async def test_it_shrinks_and_sweeps() -> None:
    cache = a_cache()
    for number in range(10):
        await cache.put(str(number), b"x", ttl=60.0 if number % 2 else 0.0)
    assert cache.sweep() == 5
    assert cache.shrink(0.5) == 3
    assert cache.shrink(0.0) == 2
    assert cache.status().bytes == 0


@given(st.lists(st.binary(max_size=8), max_size=4), st.lists(st.binary(max_size=8), max_size=4))
def test_no_two_lists_of_parts_have_the_same_key(one: list[bytes], other: list[bytes]) -> None:
    assert (key_of(*one) == key_of(*other)) == (one == other)
