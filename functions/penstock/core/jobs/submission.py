"""What callers do with jobs: submit one, ask for it, wait for it, cancel it. A job is private to its key."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NamedTuple

from penstock.core.gateway import Gateway
from penstock.core.jobs import failure
from penstock.core.jobs.bulk import Bulk
from penstock.core.jobs.recording import Channels
from penstock.core.jobs.repeats import digest_of, named
from penstock.core.json import write
from penstock.core.ports import Queue, Store
from penstock.core.webhooks.announcer import UNTOLD, Announcer
from penstock.errors import KeyReused, NotFound, StateConflict, StateError
from penstock.schema.job import CANCELLED, FAILED, OPEN, Job
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


class Draft(NamedTuple):
    """A job that is not kept yet, and the one that was ``seen`` in its place."""

    job: Job
    seen: Job | None


class Repeated(Exception):
    """Under the same idempotency key a ``job`` was made for the same request before."""

    def __init__(self, job: Job) -> None:
        super().__init__(job.id)
        self.job = job


class Submissions:
    """The callers' side of jobs."""

    def __init__(
        self,
        store: Store,
        queue: Queue,
        gateway: Gateway,
        terms: Terms,
        *,
        bulk: Bulk,
        channels: Channels,
        announcer: Announcer,
    ) -> None:
        self._store = store
        self._queue = queue
        self._gateway = gateway
        self._terms = terms
        self._bulk = bulk
        self._channels = channels
        self._announcer = announcer

    async def submit(self, request: Request, key: str | None = None) -> Job:
        """Accept a request as a job: once this returns, the job ends, whatever dies.

        The record comes first: where the message is lost, the job is due soon and told again. Its limits of requests
        hold now, those of tokens and money when it runs. Under an idempotency ``key`` that was used before, the job is
        the one that was made then. Raises ``CallerError``, ``KeyReused`` among them, or ``StateError``.
        """
        try:
            job, seen = await self.draft(request, key)
            parked = await self._gateway.admit(request)
            job = await self.keep(replace(job, model=request.model, parked=parked), seen)
        except Repeated as repeat:
            return await self._bulk.answered(repeat.job)
        if job.parked:
            return job
        try:
            await self._queue.send(job.id, priority=job.priority)
        except StateError as error:
            log.warning("a job's message is sent later: %s", error, extra={"job_id": job.id})
        return job

    async def draft(self, request: Request, key: str | None = None) -> Draft:
        """The job that a request would be; nothing is kept yet.

        Under an idempotency ``key`` that was used before it raises ``Repeated``, or ``KeyReused`` if that was for
        another request. A job that has expired, or failed by what may pass, counts no more.
        """
        now = time.time()
        who = request.caller.key_id
        job = Job(
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
            notify=await self._announcer.wanted(who),
        )
        seen = None if key is None else await self._store.find_job(job.id)
        if seen is None:
            return Draft(job, None)
        if not _expired(seen) and not (seen.status == FAILED and failure.may_pass(seen.error)):
            raise _repeat(seen, job)
        # its tries have other names in the ledger
        return Draft(replace(job, claims=seen.claims + 1, failures=seen.failures + 1), seen)

    async def keep(self, job: Job, seen: Job | None) -> Job:
        """Write a job's record, its body beside it where that is large. Raises ``Repeated`` if another was first."""
        held = replace(job, body=await self._bulk.kept(job.id, f"body-{secrets.token_hex(4)}", job.body))
        if seen is None:
            with suppress(StateConflict):
                await self._store.create_job(held)
                return held
        elif await self._store.replace_job(held, seen=seen):
            return held
        await self._bulk.forget(held.body)
        found = await self._store.find_job(job.id)
        if found is None:
            raise StateConflict("A job of this name was made and forgotten at the same time; try again.")
        raise _repeat(found, job)

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
        expires, tell_at = now + self._terms.retention, now + UNTOLD if job.notify else None
        if job.status in OPEN and await self._store.cancel_job(job.id, now=now, expires=expires, tell_at=tell_at):
            self._channels.of(job.id).stop()
            await self._bulk.forget(job.body)
            if job.notify:
                await self._announcer.tell_end_now(replace(job, status=CANCELLED, finished_at=now))
        return await self.find(id, caller)

    async def _own(self, id: str, caller: Caller) -> Job:
        job = await self._store.find_job(id)
        if job is None or job.key_id != caller.key_id or _expired(job):
            raise NotFound(f"There is no job {id[:80]!r}.")
        return job


def _expired(job: Job) -> bool:
    return job.expires_at is not None and job.expires_at <= time.time()


def _repeat(found: Job, job: Job) -> Repeated:
    """What a repeat finds. Raises ``KeyReused`` if it is none."""
    if found.digest != job.digest:
        raise KeyReused("This Idempotency-Key was used for another request: send a new key with a new request.")
    return Repeated(found)
