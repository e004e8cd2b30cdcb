"""Places behind a cache that behave as a test wants them to."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from penstock.core.ports.caching import Cached
from penstock.errors import RequestTooLarge, StateError


@dataclass
class Behind:
    """Keeps values in a dictionary. ``away``: every call fails; ``hanging``: none ever ends."""

    values: dict[str, Cached] = field(default_factory=dict)
    fillers: dict[str, tuple[str, float]] = field(default_factory=dict)
    away: bool = False
    hanging: bool = False
    largest: int = 10**6
    calls: int = 0

    async def _call(self) -> None:
        self.calls += 1
        if self.hanging:
            await asyncio.Event().wait()
        if self.away:
            raise StateError("it is away")

    async def find_cached(self, key: str, *, now: float) -> Cached | None:
        await self._call()
        found = self.values.get(key)
        return found if found and found.expires_at > now else None

    async def keep_cached(self, key: str, value: bytes, *, now: float, expires: float) -> None:
        await self._call()
        if len(value) > self.largest:
            raise RequestTooLarge("it is too large")
        self.values[key] = Cached(value, expires)
        self.fillers.pop(key, None)

    async def claim_fill(self, key: str, filler: str, *, now: float, until: float, stale: float) -> bool:
        await self._call()
        holder, end = self.fillers.get(key, ("", 0.0))
        if key in self.values or (holder not in ("", filler) and end > now):
            return False
        self.fillers[key] = (filler, until)
        return True

    async def release_fill(self, key: str, filler: str) -> None:
        await self._call()
        if self.fillers.get(key, ("",))[0] == filler:
            del self.fillers[key]
