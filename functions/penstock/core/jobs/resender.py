"""Tells the queue again of jobs that nobody has begun in time, or whose runner died, and webhooks of ends that nobody
has told: no job hangs on one message.
"""

from __future__ import annotations

import time

from penstock.core.chore import Chore
from penstock.core.counters import Counter
from penstock.core.jobs.submission import OVERDUE
from penstock.core.ports import Queue, Store
from penstock.core.webhooks.announcer import Announcer
from penstock.schema.job import OPEN

EVERY = 10.0
"""Seconds between two rounds of a process that lives long."""
BATCH = 100

RESENT = Counter(
    "penstock_jobs_resent_total", "Jobs whose message was sent again: it was lost, late, or its runner died."
)


class Resender(Chore):
    """Looks for jobs that are due, once or now and then. Of all processes that see one, one sends its message."""

    def __init__(self, store: Store, queue: Queue, announcer: Announcer) -> None:
        super().__init__(EVERY)
        self._store = store
        self._queue = queue
        self._announcer = announcer

    async def turn(self) -> int:
        """Send the messages of jobs that are due, and forget those that have expired; answers how many were sent.

        A job that waits long is told of ever less often: a queue that is merely slow must not grow by it.
        """
        now, sent = time.time(), 0
        for job in await self._store.due_jobs(now, limit=BATCH):
            ended = job.status not in OPEN
            later = now + (OVERDUE if ended else max(OVERDUE, now - job.created_at))
            if not await self._store.postpone_job(job.id, seen=job.due_at, due_at=later):
                continue
            if ended:
                await self._tell_end(job.id)
                continue
            await self._queue.send(job.id, priority=job.priority)
            RESENT.add()
            sent += 1
        await self._store.prune_jobs(now)
        return sent

    async def _tell_end(self, id: str) -> None:
        """Have webhooks told of the end of a job, which the process that ended it did not live to do."""
        if (job := await self._store.find_job(id)) is not None:
            await self._announcer.tell_end(job)
