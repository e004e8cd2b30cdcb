"""The caches that a configuration asks for, and what a person is told who asked for one that cannot be."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from penstock.bootstrap.caches import build_caches, build_memory_guard
from penstock.core.cache.caches import cache_status
from penstock.errors import SettingsError
from penstock.schema.caching_section import CachingSection, MemorySection, ResponseCache, SummaryCache
from penstock.schema.config import Document
from penstock.schema.secret import Secret
from penstock.settings import Settings
from tests.unit.memory import MemoryStore


def told(section: CachingSection | None = None, memory: MemorySection | None = None, **settings: Any) -> Settings:
    return Settings(document=Document(caching=section, memory=memory), **settings)


def test_without_a_section_there_is_nothing() -> None:
    assert build_caches(told(), MemoryStore()) is None
    assert build_memory_guard(told(), None) is None
    assert build_caches(told(CachingSection(enabled=False)), MemoryStore()) is None
    assert cache_status(None) == {"enabled": False, "hit_rate": 0.0, "entries": 0}


def test_the_section_says_how_large_they_are_and_for_how_long() -> None:
    section = CachingSection(response_cache=ResponseCache(max_size_mb=2, ttl=7), summary_cache=SummaryCache(ttl=9))
    caches = build_caches(told(section), MemoryStore())
    assert caches is not None
    assert (caches.answers.cache.memory.room, caches.answers.cache.ttl) == (2 * 1024 * 1024, 7)
    assert (caches.summaries.memory.room, caches.summaries.ttl) == (256 * 1024 * 1024, 9)
    assert cache_status(caches) == {"enabled": True, "hit_rate": 0.0, "entries": 0}


@pytest.mark.parametrize(("backend", "shared", "connected"), [("state", True, None), ("memory", False, None)])
def test_the_backend_is_the_state_or_nothing(backend: Any, shared: bool, connected: None) -> None:
    caches = build_caches(told(CachingSection(backend=backend)), MemoryStore())
    assert caches is not None
    assert (caches.answers.cache.shared, caches.connected) == (shared, connected)


@pytest.mark.parametrize("url", ["redis://:hunter2@127.0.0.1:1/0", "valkey://127.0.0.1:1/0", None])
async def test_redis_is_not_called_before_it_is_used(url: str | None) -> None:
    settings = told(CachingSection(backend="redis"), cache_url=Secret(url) if url else None)
    caches = build_caches(settings, MemoryStore())
    assert caches is not None
    assert caches.connected is True
    assert "hunter2" not in repr(settings)
    await caches.close()


@pytest.mark.parametrize("url", ["http://:hunter2@127.0.0.1/", "redis://:a@127.0.0.1:hunter2/0"])
def test_an_address_that_names_no_server_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(SettingsError, match="PENSTOCK_CACHE_URL") as error:
        build_caches(told(CachingSection(backend="redis"), cache_url=Secret(url)), MemoryStore())
    assert "hunter2" not in str(error.value)


def test_who_lacks_the_package_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    monkeypatch.delitem(sys.modules, "penstock.caches.redis", raising=False)
    with pytest.raises(SettingsError, match=r"penstock\[redis\]"):
        build_caches(told(CachingSection(backend="redis")), MemoryStore())


def test_the_guard_shrinks_the_caches() -> None:
    settings = told(CachingSection(), MemorySection(max_usage_percent=100, gc_threshold_percent=0.001))
    caches = build_caches(settings, MemoryStore())
    assert caches is not None
    guard = build_memory_guard(settings, caches)
    assert guard is not None
    caches.answers.cache.memory.keep("a", b"x", expires=9e9)
    assert 0 < guard.guard() <= 100
    assert caches.answers.cache.status().entries == 0


@pytest.mark.parametrize(
    ("key", "make"),
    [
        ("max_size_mb", lambda: ResponseCache(max_size_mb=0)),
        ("ttl", lambda: SummaryCache(ttl=0)),
        ("wait", lambda: CachingSection(wait=-1)),
        ("gc_threshold_percent", lambda: MemorySection(max_usage_percent=50, gc_threshold_percent=60)),
        ("max_usage_percent", lambda: MemorySection(max_usage_percent=101)),
        ("cache_cleanup_interval", lambda: MemorySection(cache_cleanup_interval=0)),
    ],
)
def test_what_is_out_of_bounds_is_named(key: str, make: Any) -> None:
    with pytest.raises(ValueError, match=key):
        make()
