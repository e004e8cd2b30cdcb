"""What callers do with jobs: submit one, ask for it, wait for it, cancel it. A job is private to its key."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from dataclasses import dataclass

from penstock.core.gateway import Gateway
from penstock.core.json import write
from penstock.core.ports import Queue, Store
from penstock.errors import NotFound, StateError
from penstock.schema.job import OPEN, Job
from penstock.schema.key import Caller
from penstock.schema.request import Request

log = logging.getLogger("penstock.jobs")

OVERDUE = 30.0
"""Seconds after which a queued job that nobody has begun is told to the queue again."""
WAITING = 14 * 86400.0
"""Seconds for which a job may wait for a runner, as long as SQS keeps a message."""
FIRST_LOOK, LONGEST_LOOK = 0.05, 1.0
"""Seconds between two looks at a job that a caller waits for: they grow, for each is a read."""
STREAMING = ("stream", "stream_options")


@dataclass(frozen=True, slots=True)
class Terms:
    """How jobs are kept and run; seconds. ``retention`` begins with a job's end, ``timeout`` with each try of it."""

    retention: float = 86400.0
    timeout: float = 840.0
    attempts: int = 5


class Submissions:
    """The callers' side of jobs."""

    def __init__(self, store: Store, queue: Queue, gateway: Gateway, terms: Terms) -> None:
        self._store = store
        self._queue = queue
        self._gateway = gateway
        self._terms = terms

    async def submit(self, request: Request) -> Job:
        """Accept a request as a job: once this returns, the job ends, whatever dies.

        The record comes first: where the message is lost, the job is due soon and told again. Its limits of requests
        hold now, those of tokens and money when it runs. Raises ``CallerError`` or ``StateError``.
        """
        await self._gateway.admit(request)
        now = time.time()
        body = {name: value for name, value in request.body.items() if name not in STREAMING}
        job = Job(
            id=f"job_{int(now * 1000):012x}{secrets.token_hex(8)}",
            key_id=request.caller.key_id,
            endpoint=request.endpoint,
            body=write(body),
            created_at=now,
            priority=request.caller.priority,
            due_at=now + OVERDUE,
            expires_at=now + WAITING,
            model=request.model,
        )
        await self._store.create_job(job)
        try:
            await self._queue.send(job.id, priority=job.priority)
        except StateError as error:
            log.warning("a job's message is sent later: %s", error, extra={"job_id": job.id})
        return job

    async def find(self, id: str, caller: Caller) -> Job:
        """A caller's own job. Raises ``NotFound`` for every other."""
        job = await self._store.find_job(id)
        if job is None or job.key_id != caller.key_id or (job.expires_at is not None and job.expires_at <= time.time()):
            raise NotFound(f"There is no job {id[:80]!r}.")
        return job

    async def ended(self, job: Job, seconds: float) -> Job:
        """The job once it has ended, or as it is after so many seconds."""
        end, pause = time.monotonic() + seconds, FIRST_LOOK
        while job.status in OPEN and (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 1.5, LONGEST_LOOK)
            job = await self._store.find_job(job.id) or job
        return job

    async def cancel(self, id: str, caller: Caller) -> Job:
        """End a caller's own job, unless it has ended; whoever runs it stops soon. Answers the job as it is then."""
        job = await self.find(id, caller)
        now = time.time()
        if job.status in OPEN:
            await self._store.cancel_job(job.id, now=now, expires=now + self._terms.retention)
        return await self.find(id, caller)
