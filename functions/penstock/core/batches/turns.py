"""Turns of batches, as runners of jobs take them: a batch is claimed, worked on for a moment, and given back."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress

from penstock.core.batches.driver import Driver
from penstock.core.batches.ending import end_of
from penstock.core.jobs.submission import OVERDUE
from penstock.core.json import parse
from penstock.core.ports import Queue, Store
from penstock.core.webhooks.announcer import Announcer
from penstock.errors import StateConflict, StateError
from penstock.schema.batch import ENDED, Batch
from penstock.schema.job import Job

log = logging.getLogger("penstock.batches")

SOON, LATER = 1.0, 3.0
"""Seconds until the next turn of a batch that has come on, and of one that has not."""
LEASE, RENEWED = 30.0, 5.0
"""Seconds for which a turn holds its batch, and between two renewals of a long one."""
MAKING = 600.0
"""Seconds that a batch may be missing after its job was made; then nobody is making it any more."""
KEPT = 86_400.0


class Turns:
    """Takes one turn of a batch for each message of its job."""

    def __init__(self, store: Store, queue: Queue, driver: Driver, announcer: Announcer) -> None:
        self._store = store
        self._queue = queue
        self._driver = driver
        self._announcer = announcer

    async def take(self, job: Job, runner: str) -> None:
        """One turn of the batch whose job ``runner`` has claimed. Raises ``StateError``: then another turn comes."""
        key_id = str(parse(job.body)["key_id"])
        batch = await self._store.find_batch(key_id, job.id)
        if batch is None and time.time() - job.created_at < MAKING:
            await self._give_back(job, runner, LATER)
            return
        delay = None
        if batch is not None and batch.status not in ENDED:
            try:
                delay = await self._held(job, runner, batch)
            except StateConflict:  # its caller cancelled it meanwhile, or another drives it
                delay = 0.0
            except asyncio.CancelledError:
                await self._give_back(job, runner, 0.0)
                raise
        if delay is not None:
            await self._give_back(job, runner, delay)
            return
        if (ended := await self._store.find_batch(key_id, job.id)) is not None:
            await self._announcer.announce(end_of(ended))  # if this dies before the job has ended, it is done again
        now = time.time()
        await self._store.finish_job(job.id, runner, now=now, expires=now + KEPT, result=b"{}")

    async def _held(self, job: Job, runner: str, batch: Batch) -> float | None:
        """Drive the batch while its job's lease is renewed; answers when to go on, ``None`` if it has ended."""
        working = asyncio.ensure_future(self._driver.advance(batch))
        renewing = asyncio.ensure_future(self._renew(job, runner, working))
        try:
            await asyncio.wait({working})
        finally:
            renewing.cancel()
            if working.cancel():
                await asyncio.gather(working, return_exceptions=True)
        if working.cancelled():
            raise StateConflict(f"the batch {job.id} is driven by another")
        after = working.result()
        if after.status in ENDED:
            return None
        return 0.0 if after.stopped else LATER if after == batch else SOON

    async def _renew(self, job: Job, runner: str, working: asyncio.Future[Batch]) -> None:
        while True:
            await asyncio.sleep(RENEWED)
            with suppress(StateError):
                if not await self._store.renew_job(job.id, runner, now=time.time(), lease=LEASE):
                    working.cancel()
                    return

    async def _give_back(self, job: Job, runner: str, delay: float) -> None:
        """Have the next turn taken: the record first, and then its message, which may be lost."""
        if await self._store.release_job(job.id, runner, due_at=time.time() + delay + OVERDUE, failed=False):
            with suppress(StateError):
                await self._queue.send(job.id, priority=job.priority, delay=delay)
