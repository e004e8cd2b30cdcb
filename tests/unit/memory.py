"""A store in memory that counts what it is asked, and fails or waits when a test wants it to."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from penstock.errors import StateConflict, StateError
from penstock.schema.key import VirtualKey
from penstock.schema.model import ModelCard, Registry, Selection
from penstock.schema.notice import Notice
from penstock.schema.outcome import Outcome

DOWN = StateError("the store is down")


class MemoryStore:
    """The operations of a store that the core's tests need. While ``failure`` is set, each of them raises it."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.failure: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.keys: dict[str, VirtualKey] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.batches: list[int] = []
        self.registry = Registry()
        self.notices: dict[tuple[str, str], Notice] = {}
        self.duties: dict[str, tuple[str, float]] = {}
        self._changed = asyncio.Condition()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until what was asked or written is as a test wants it."""
        async with asyncio.timeout(5), self._changed:
            await self._changed.wait_for(condition)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _enter(self, operation: str) -> None:
        self.asked[operation] += 1
        await self._tell()
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure

    async def find_key(self, sha256: str) -> VirtualKey | None:
        await self._enter("find_key")
        return self.keys.get(sha256)

    def revoke(self, sha256: str, at: float) -> None:
        """Revoke a key as another process would."""
        self.keys[sha256] = replace(self.keys[sha256], revoked_at=at)

    async def record_outcomes(self, outcomes: Sequence[Outcome]) -> int:
        await self._enter("record_outcomes")
        self.batches.append(len(outcomes))
        before = len(self.outcomes)
        for outcome in outcomes:
            self.outcomes.setdefault(outcome.request_id, outcome)
        await self._tell()
        return len(self.outcomes) - before

    async def post_notice(self, notice: Notice) -> None:
        await self._enter("post_notice")
        before = self.notices.get((notice.place, notice.about))
        if before is None or notice.at >= before.at:
            self.notices[notice.place, notice.about] = notice

    async def list_notices(self, now: float) -> list[Notice]:
        await self._enter("list_notices")
        return [notice for notice in self.notices.values() if notice.until > now]

    async def take_duty(self, name: str, holder: str, *, now: float, until: float) -> bool:
        await self._enter("take_duty")
        held_by, held_until = self.duties.get(name, (holder, now))
        if held_by != holder and held_until > now:
            return False
        self.duties[name] = holder, until
        return True

    async def load_registry(self) -> Registry:
        await self._enter("load_registry")
        return self.registry

    async def publish_registry(
        self, cards: Sequence[ModelCard], selections: Sequence[Selection] = (), *, expected: int, at: float
    ) -> Registry:
        await self._enter("publish_registry")
        if expected != self.registry.version:
            raise StateConflict("another version was published")
        self.registry = Registry(expected + 1, tuple(cards), at, tuple(selections))
        return self.registry


class Clock:
    """Stands in for the module ``time``: it goes on only when a test says so."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now
