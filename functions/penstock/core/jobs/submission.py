"""What callers do with jobs: submit one, ask for it, wait for it, cancel it. A job is private to its key."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass, replace

from penstock.core.gateway import Gateway
from penstock.core.jobs.bulk import Bulk
from penstock.core.jobs.recording import Channels
from penstock.core.jobs.repeats import digest_of, named
from penstock.core.json import write
from penstock.core.ports import Queue, Store
from penstock.errors import KeyReused, NotFound, StateConflict, StateError
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


@dataclass(frozen=True, slots=True)
class Terms:
    """How jobs are kept and run; seconds. ``retention`` begins with a job's end, ``timeout`` with each try of it,
    ``time_limit`` with the first.
    """

    retention: float = 86400.0
    timeout: float = 840.0
    attempts: int = 5
    time_limit: float | None = None


class Submissions:
    """The callers' side of jobs."""

    def __init__(
        self, store: Store, queue: Queue, gateway: Gateway, terms: Terms, *, bulk: Bulk, channels: Channels
    ) -> None:
        self._store = store
        self._queue = queue
        self._gateway = gateway
        self._terms = terms
        self._bulk = bulk
        self._channels = channels

    async def submit(self, request: Request, key: str | None = None) -> Job:
        """Accept a request as a job: once this returns, the job ends, whatever dies.

        The record comes first: where the message is lost, the job is due soon and told again. Its limits of requests
        hold now, those of tokens and money when it runs. Under an idempotency ``key`` that was used before, the job is
        the one that was made then. Raises ``CallerError``, ``KeyReused`` among them, or ``StateError``.
        """
        job = self.draft(request, key)
        if key is not None and (earlier := await self._earlier(job)):
            return await self._bulk.answered(earlier)
        await self._gateway.admit(request)
        if key is None:
            job = await self.keep(job)
        else:
            job = await self._bodied(job)
            mine = job.body
            job, made = await self._create_once(job)
            if not made:
                await self._bulk.forget(mine)
                return await self._bulk.answered(job)
        try:
            await self._queue.send(job.id, priority=job.priority)
        except StateError as error:
            log.warning("a job's message is sent later: %s", error, extra={"job_id": job.id})
        return job

    def draft(self, request: Request, key: str | None = None) -> Job:
        """The job that a request would be; nothing is kept yet."""
        now = time.time()
        who = request.caller.key_id
        return Job(
            id=f"job_{int(now * 1000):012x}{secrets.token_hex(8)}" if key is None else named("job", who, key),
            key_id=who,
            endpoint=request.endpoint,
            body=write(request.body),
            created_at=now,
            priority=request.caller.priority,
            due_at=now + OVERDUE,
            expires_at=now + WAITING,
            model=request.model,
            digest="" if key is None else digest_of(request),
            streamed=request.stream,
        )

    async def keep(self, job: Job) -> Job:
        """Write a new job's record, and its body beside it where that is large."""
        job = await self._bodied(job)
        await self._store.create_job(job)
        return job

    async def _bodied(self, job: Job) -> Job:
        return replace(job, body=await self._bulk.kept(job.id, f"body-{secrets.token_hex(4)}", job.body))

    async def _earlier(self, job: Job) -> Job | None:
        """The job that was made under the same idempotency key. Raises ``KeyReused`` if it is another request's."""
        found = await self._store.find_job(job.id)
        if found is None or _expired(found):
            return None
        if found.digest != job.digest:
            raise KeyReused("This Idempotency-Key was used for another request: send a new key with a new request.")
        return found

    async def _create_once(self, job: Job) -> tuple[Job, bool]:
        """Write the record, also in the place of one that has expired; or find the job that another made meanwhile."""
        while True:
            with suppress(StateConflict):
                await self._store.create_job(job)
                return job, True
            if earlier := await self._earlier(job):
                return earlier, False
            if found := await self._store.find_job(job.id):  # a try of it has another name in the ledger
                job = replace(job, claims=found.claims + 1, failures=found.failures + 1)
                if await self._store.replace_job(job, seen=found):
                    return job, True

    async def find(self, id: str, caller: Caller) -> Job:
        """A caller's own job. Raises ``NotFound`` for every other."""
        return await self._bulk.answered(await self._own(id, caller))

    async def ended(self, job: Job, seconds: float) -> Job:
        """The job once it has ended, or as it is after so many seconds."""
        end, pause = time.monotonic() + seconds, FIRST_LOOK
        while job.status in OPEN and (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 1.5, LONGEST_LOOK)
            job = await self._store.find_job(job.id) or job
        return await self._bulk.answered(job)

    async def cancel(self, id: str, caller: Caller) -> Job:
        """End a caller's own job, unless it has ended; whoever runs it stops soon. Answers the job as it is then."""
        job = await self._own(id, caller)
        now = time.time()
        if job.status in OPEN and await self._store.cancel_job(job.id, now=now, expires=now + self._terms.retention):
            self._channels.of(job.id).stop()
            await self._bulk.forget(job.body)
        return await self.find(id, caller)

    async def _own(self, id: str, caller: Caller) -> Job:
        job = await self._store.find_job(id)
        if job is None or job.key_id != caller.key_id or _expired(job):
            raise NotFound(f"There is no job {id[:80]!r}.")
        return job


def _expired(job: Job) -> bool:
    return job.expires_at is not None and job.expires_at <= time.time()
