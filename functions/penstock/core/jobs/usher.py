"""Calls jobs in whose model had no room for them: the first in line when there is some."""

from __future__ import annotations

import time
from collections.abc import Mapping

from penstock.core.chore import Chore
from penstock.core.jobs.submission import OVERDUE
from penstock.core.limits.terms import model_meter
from penstock.core.ports import Queue, Store

EVERY = 2.0
"""Seconds between two looks of a process that lives long: room that is not left by a job shows in no other way."""
MOST = 10
"""Jobs that are called at once."""


class Usher(Chore):
    """Knows the models whose requests under way are limited: ``rooms``, by their public names.

    Jobs that wait cost one read of each model in ``EVERY`` seconds, however many they are.
    """

    def __init__(self, store: Store, queue: Queue, rooms: Mapping[str, int]) -> None:
        super().__init__(EVERY)
        self._store = store
        self._queue = queue
        self._rooms = rooms
        self._called: dict[str, float] = {}

    async def turn(self) -> int:
        """Call in as many jobs as there is room for; answers how many."""
        return sum([await self.call(model) for model in self._rooms])

    async def call(self, model: str) -> int:
        """Call in the jobs of one model that are the first in line; answers how many. Others have no line."""
        if model not in self._rooms:
            return 0
        line = await self._store.parked_jobs(model, limit=min(self._rooms[model], MOST))
        if not line:
            return 0
        taken = (await self._store.read_meter(model_meter(model))).slots
        now, called = time.time(), 0
        self._called = {name: at for name, at in self._called.items() if now - at < OVERDUE}
        for job in line[: max(self._rooms[model] - taken, 0)]:
            if job.id not in self._called and await self._store.postpone_job(
                job.id, seen=job.due_at, due_at=now + OVERDUE
            ):
                self._called[job.id] = now
                await self._queue.send(job.id, priority=job.priority)
                called += 1
        return called
