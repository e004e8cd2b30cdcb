"""The caches and the memory guard of one process, where the configuration wants them: nobody else imports them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from penstock import plugs
from penstock.core.ports import Store
from penstock.errors import SettingsError
from penstock.house import House
from penstock.schema.caching_section import CachingSection, MemorySection, ResponseCache, SummaryCache
from penstock.settings import Settings

if TYPE_CHECKING:
    from penstock.core.cache.cache import Cache
    from penstock.core.cache.caches import Caches
    from penstock.core.memory import MemoryGuard

MB = 1024 * 1024
USUAL = "redis://127.0.0.1:6379/0"


def build_caches(settings: Settings, store: Store, before: House | None = None) -> Caches | None:
    """The caches, or ``None`` without a section that turns them on. Raises ``SettingsError``.

    They know what those of the house ``before`` have in memory.
    """
    section = settings.document.caching
    if section is None or not section.enabled:
        return None
    from penstock.core.cache.answers import Answers  # noqa: PLC0415 - no part of a start without caches
    from penstock.core.cache.caches import Caches, Cleaner  # noqa: PLC0415

    backing = _backing(section, settings, store)
    condensing = settings.document.condensation
    answers = _cache("responses", section.response_cache, backing)
    summaries = _cache("summaries", section.summary_cache, backing, condensing.cache_size if condensing else None)
    if before is not None and before.caches is not None:
        answers.succeed(before.caches.answers.cache)
        summaries.succeed(before.caches.summaries)
    memory = settings.document.memory or MemorySection()
    cleaner = Cleaner(
        [answers, summaries],
        memory.cache_cleanup_interval,
        store=store if backing is store else None,
        room=answers.memory.room + summaries.memory.room,
    )
    kept = Answers(
        answers,
        shared_between=section.shared_between,
        everything=section.answers == "all",
        wait=section.wait,
    )
    return Caches(kept, summaries, cleaner, backing.close if section.backend == "redis" else None)


def build_memory_guard(settings: Settings, caches: Caches | None) -> MemoryGuard | None:
    """The guard, or ``None`` without a section that asks for one."""
    section = settings.document.memory
    if section is None:
        return None
    from penstock.core.memory import MemoryGuard  # noqa: PLC0415 - no part of a start without it
    from penstock.hardware import MemoryUse, give_back  # noqa: PLC0415

    shrink: Callable[[float], int] = caches.shrink if caches is not None else lambda _: 0
    return MemoryGuard(section, look=MemoryUse().percent, shrink=shrink, give_back=give_back)


def _cache(name: str, bounds: ResponseCache | SummaryCache, backing: Any, entries: int | None = None) -> Cache:
    from penstock.core.cache.cache import Cache  # noqa: PLC0415

    return Cache(
        name,
        room=int(bounds.max_size_mb * MB),
        ttl=bounds.ttl,
        compression=bounds.compression,
        backing=backing,
        entries=entries,
    )


def _backing(section: CachingSection, settings: Settings, store: Store) -> Any:
    """What is behind memory: the state, a plug, or nothing."""
    if section.backend == "state":
        return store
    if section.backend == "memory":
        return None
    try:
        return plugs.load("caches", section.backend).connect(
            settings.cache_url.reveal() if settings.cache_url else USUAL
        )
    except ImportError:
        raise SettingsError(
            "needs the package 'redis': pip install 'penstock[redis]'", setting="caching.backend"
        ) from None
    except ValueError:  # its words may hold a part of the password
        raise SettingsError("names no server: write redis://host:6379/0", setting="PENSTOCK_CACHE_URL") from None
