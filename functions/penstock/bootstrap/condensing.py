"""What makes conversations shorter, where the configuration wants that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.core.ports import Store
from penstock.schema.config import Document

if TYPE_CHECKING:
    from penstock.core.cache.caches import Caches
    from penstock.core.condensing.condenser import Condenser

ROOM = 64 * 1024 * 1024
"""Bytes of summaries in the memory of a process at most, and of those that are kept in a state that is a file."""
EVERY = 300.0
"""Seconds between two looks for what has expired."""


def build_condenser(document: Document, store: Store, caches: Caches | None) -> Condenser | None:
    """The condenser of the configuration; ``None`` if it has none.

    It keeps summaries in the cache of summaries, where there is one and that lasts as long as is wanted.
    """
    section = document.condensation
    if section is None or not section.enabled:
        return None
    from penstock.core.cache.cache import Cache  # noqa: PLC0415 - for those who want it
    from penstock.core.cache.caches import Cleaner  # noqa: PLC0415
    from penstock.core.condensing.condenser import Condenser  # noqa: PLC0415

    if not section.cache_size:
        return Condenser(section, None)
    if caches is not None and (caches.summaries.shared or not section.cache_persist):
        return Condenser(section, caches.summaries)
    backing = store if section.cache_persist else None
    cache = Cache("summaries", room=ROOM, ttl=section.cache_ttl, entries=section.cache_size, backing=backing)
    return Condenser(section, cache, Cleaner([cache], EVERY, store=backing, room=ROOM))
