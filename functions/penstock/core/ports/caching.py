"""What the core asks of a place where caches keep what several processes share."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Cached(NamedTuple):
    """A value and when it is to be forgotten, in seconds since the epoch."""

    value: bytes
    expires_at: float


class CacheBacking(Protocol):
    """Values under keys until they expire, and who is about to bring one. Raises ``StateError`` while it is away."""

    async def find_cached(self, key: str, *, now: float) -> Cached | None:
        """The value, unless there is none or its time is over."""
        ...

    async def keep_cached(self, key: str, value: bytes, *, now: float, expires: float) -> None:
        """Keep a value in the place of any other, and nobody is about to bring it any more.

        Raises ``RequestTooLarge`` if the place cannot hold it.
        """
        ...

    async def claim_fill(self, key: str, filler: str, *, now: float, until: float, stale: float) -> bool:
        """Be the one who brings the value, or be it longer; ``False`` while another is, or if one is there already.

        A value that was kept at ``stale`` or before counts as none.
        """
        ...

    async def release_fill(self, key: str, filler: str) -> None:
        """Bring nothing after all; nothing changes where another has been at it meanwhile."""
        ...


class CacheStore(CacheBacking, Protocol):
    """The part of a ``Store`` that backs caches; the same rules hold."""

    async def prune_cached(self, now: float, *, room: int, limit: int = 500) -> int:
        """Forget what has expired, and the oldest of what exceeds ``room`` bytes, up to ``limit`` of each.

        Answers how many (0 where the backend's own TTL does it, which bounds no size).
        """
        ...
