"""Runs one job: claims it, keeps its lease while the gateway works, and writes its end once."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from penstock.core.counters import Counter
from penstock.core.gateway import Gateway
from penstock.core.guests import Guests
from penstock.core.jobs import failure
from penstock.core.jobs.bulk import Bulk
from penstock.core.jobs.recording import Channels, Recording
from penstock.core.jobs.submission import OVERDUE, Terms
from penstock.core.jobs.usher import Usher
from penstock.core.json import parse
from penstock.core.keys import Keyring
from penstock.core.ports import Connection, Queue, Store
from penstock.core.webhooks.announcer import UNTOLD, Announcer
from penstock.errors import (
    ClassifierError,
    InvalidRequest,
    JobError,
    JobsOnly,
    ModelFull,
    NoDeploymentAvailable,
    PenstockError,
    RateLimited,
    RequestTooLarge,
    StateError,
    TaskTimeout,
    UpstreamError,
    UpstreamRefused,
)
from penstock.schema.batch import LINE_KEPT, is_line
from penstock.schema.job import CANCELLED, COMPLETED, FAILED, Job
from penstock.schema.model import Deployment
from penstock.schema.request import Request

See = Callable[[list[bytes]], list[bytes]]
Told = Callable[[bytes], bytes]

log = logging.getLogger("penstock.jobs")

LEASE = 30.0
"""Seconds for which a runner holds a job that it does not renew; then another may take it over."""
RENEWED = 5.0
"""Seconds between two renewals. They show as well that a job was cancelled, which stops its call."""
AGAIN = 1.0
"""Seconds between two tries to write an end that the store did not take."""
PASSING = (UpstreamError, NoDeploymentAvailable, ClassifierError)
BACKOFF, LONGEST = 2.0, 300.0
"""Seconds before a try that follows a failure, doubled with each, and at most."""

ENDED = Counter(
    "penstock_jobs_tries_total", "Tries of jobs by how they ended: completed, failed, given_back, parked.", ("result",)
)


Errand = Callable[[Job, str], Awaitable[None]]
"""What is done with a job that is no request, by the runner of a name that has claimed it."""
NO_ERRANDS: Mapping[str, Errand] = {}


class Taken(NamedTuple):
    """An answer that a worker has made by itself: where, how it tells it, and in how many seconds."""

    place: Deployment
    connection: Connection
    seconds: float


class JobRunner:
    """Runs jobs under a name of its own. A try of a job may take ``terms.timeout`` seconds; so many fail at most.

    Jobs of some endpoints are ``errands`` of the house.
    """

    def __init__(
        self,
        store: Store,
        queue: Queue,
        gateway: Gateway,
        keyring: Keyring,
        terms: Terms,
        *,
        bulk: Bulk,
        channels: Channels,
        usher: Usher,
        announcer: Announcer,
        guests: Guests | None = None,
        errands: Mapping[str, Errand] = NO_ERRANDS,
    ) -> None:
        self._store = store
        self._queue = queue
        self._gateway = gateway
        self._keyring = keyring
        self._terms = terms
        self._bulk = bulk
        self._channels = channels
        self._usher = usher
        self._errands = errands
        self.name = f"runner-{secrets.token_hex(6)}"
        self._announcer = announcer
        self._guests = guests or Guests()

    @property
    def longest(self) -> float:
        """Seconds that one try may take."""
        return self._terms.timeout

    async def run(self, message: str) -> None:
        """Claim the job that a message of SQS points to, ``{"job_id": "…"}``, and run it.

        Raises ``JobError`` if it names no job, so that the queue delivers it again and puts it aside at last.
        """
        try:
            document: Any = parse(message)
            job_id = document["job_id"]
        except (ValueError, KeyError, TypeError):
            raise JobError("the message is not {'job_id': '…'}") from None
        if not isinstance(job_id, str):
            raise JobError("the message's job_id is not a string")
        if (job := await self.claim(job_id)) is not None:
            await self.work(job)
            await self._announcer.sent()  # once it has answered, a function may be frozen

    async def claim(self, job_id: str) -> Job | None:
        """Take a job, unless it has ended or another runner holds it. Raises ``JobError`` if there is none.

        Where another dies with it, the job is due again when its lease is over: this message is needed no more.
        """
        job = await self._store.claim_job(job_id, self.name, now=time.time(), lease=LEASE)
        if job is None and await self._store.find_job(job_id) is None:
            raise JobError(f"there is no job {job_id}")
        return job

    async def work(self, job: Job) -> None:
        """Run a job that was claimed, and see to it that it ends, now or later.

        When this is cancelled the job is given back to whoever is next. Raises ``StateError`` when the store cannot
        answer: then its lease runs out, and it is told again.
        """
        if (errand := self._errands.get(job.endpoint)) is not None:
            await errand(job, self.name)
        elif not await self.hopeless(job):
            await self.attempt(job)

    async def hopeless(self, job: Job) -> bool:
        """End a job that was claimed too often or too late to be begun again; ``False`` for every other."""
        if job.attempts > self._terms.attempts:
            died = JobError(f"The job was begun {job.attempts - 1} times and never ended: it was given up.")
            await self._end(job, error=failure.write(died))
            return True
        if self._left(job) <= 0:
            await self._failed(job, self._late("No time is left for another try."))
            return True
        return False

    async def attempt(self, job: Job, taken: Taken | None = None) -> None:
        """Have the gateway answer a job, or take the answer that a worker has ``taken`` to the end; as ``work``."""
        request: Request | None = None
        with self._guests, self._recording(job) as recording:
            try:
                request = await self.request(job, recording)
                if taken is not None:
                    request.worker, request.worked = taken.place, taken.seconds
                if await self._call(job, request, recording, taken):
                    ENDED.add("completed")
            except StateError:
                raise
            except PenstockError as error:
                await self.refused(job, error)
        if request is not None:
            await self._after(job, request)

    async def serve(self, job: Job, request: Request, see: See | None = None, told: Told | None = None) -> None:
        """Run a request that its caller waits for as a job, which this runner holds once ``request.accepted`` is done.

        ``see`` may change the payloads of its stream, ``told`` its whole answer. A failure ends it at once: its caller
        may well try again. What fails before the job is accepted is raised.
        """
        request.id, request.admitted, request.reservations = _try(job), True, 0  # as whoever takes it over has them
        request.deadline = asyncio.get_running_loop().time() + min(self._terms.timeout, self._left(job))
        with self._guests, self._recording(job) as recording:
            keep = partial(self._keep, job, recording)
            request.keep = keep if told is None else lambda answer: keep(told(answer))
            if job.streamed:
                request.tell = recording.say if see is None else lambda payloads: recording.say(see(payloads))
            try:
                if await self._call(job, request, recording, None):
                    ENDED.add("completed")
            except PenstockError as error:
                if request.accepted is not None or isinstance(error, StateError):
                    raise
                ENDED.add("failed")
                await self._end(job, error=failure.write(error))
        await self._after(job, request)

    async def _after(self, job: Job, request: Request) -> None:
        if not request.abandoned:
            await self._gateway.settled(request)
            with suppress(StateError):  # the usher looks by itself as well
                await self._usher.call(job.model)

    async def refused(self, job: Job, error: PenstockError) -> None:
        """See to it that a job comes again whose try was not admitted or has failed, or that it ends."""
        by_alias = job.model in self._gateway.aliases  # a line of a batch: workers ask for jobs of a model's own name
        if isinstance(error, ModelFull) or (isinstance(error, JobsOnly) and not by_alias):
            await self.park(job)
        elif isinstance(error, RateLimited):
            await self.give_back(job, error.retry_after or BACKOFF)
        else:
            await self._failed(job, error)

    def _recording(self, job: Job) -> Recording:
        expires = time.time() + self._terms.timeout + LEASE + self._terms.retention
        return Recording(self._store, self._channels.of(job.id), job, expires=expires)

    async def _call(self, job: Job, request: Request, recording: Recording, taken: Taken | None) -> bool:
        """Have the gateway answer while the lease is renewed; ``False`` if the job was taken away meanwhile."""
        working = asyncio.ensure_future(self._gateway.complete(request, taken.connection if taken else None))
        renewing = asyncio.ensure_future(self._renew(job, request, working))
        try:
            await asyncio.wait({working})
        except asyncio.CancelledError:  # this runner is being stopped, and somebody else shall do it
            request.abandoned = request.accepted is None
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            if request.abandoned:
                await self.give_back(job, 0.0)
            raise
        finally:
            renewing.cancel()
        if working.cancelled() or working.exception() is not None:
            await recording.give_up()
        if working.cancelled():
            return False
        working.result()
        return True

    async def _renew(self, job: Job, request: Request, working: asyncio.Future[bytes]) -> None:
        """Renew the lease until the work is over; stop the work once the job is not ours to run any more."""
        until = time.monotonic() + LEASE
        while True:
            await self._channels.of(job.id).stopped(RENEWED)
            if request.accepted is not None:
                continue
            try:
                began = time.monotonic()
                if await self._store.renew_job(job.id, job.runner, now=time.time(), lease=LEASE):
                    until = began + LEASE
                    continue
                found = await self._store.find_job(job.id)
            except StateError as error:
                log.warning("a job's lease could not be renewed: %s", error, extra={"job_id": job.id})
                if time.monotonic() < until - RENEWED:
                    continue
                found = None
            request.abandoned = found is None or found.status != CANCELLED
            working.cancel()
            return

    async def request(self, job: Job, recording: Recording | None = None) -> Request:
        """What a job asks of the gateway. Raises ``InvalidRequest``, or ``Authentication`` once its key is gone."""
        document = await self._bulk.whole(job.body)
        try:
            body: Any = parse(document)
            model = body["model"]
        except (ValueError, KeyError, TypeError):
            raise InvalidRequest("The body of this job is not a request.") from None
        return Request(
            id=_try(job),
            endpoint=job.endpoint,
            model=model,
            body=body,
            stream=job.streamed,
            caller=await self._keyring.holder(job.key_id),
            deadline=asyncio.get_running_loop().time() + min(self._terms.timeout, self._left(job)),
            size=len(document),
            admitted=True,
            keep=partial(self._keep, job, recording) if recording else None,
            tell=recording.say if recording and job.streamed else None,
            chosen="" if model == job.model else job.model,
        )

    async def _keep(self, job: Job, recording: Recording, answer: bytes) -> bool:
        """Write the result; ``False`` if the job is another runner's now, who settles what it cost."""
        await recording.end()
        try:
            kept = await self._end(job, result=answer)
        except RequestTooLarge as error:
            kept = await self._end(job, error=failure.write(error))
        if kept:
            return True
        found = await self._store.find_job(job.id)
        return found is not None and found.status == CANCELLED

    async def _end(self, job: Job, *, result: bytes = b"", error: str = "") -> bool:
        """Write how the job ended, trying for the length of a lease; ``False`` if it ended or is another's."""
        until, doubt = time.monotonic() + LEASE, False
        while True:
            now = time.time()
            expires = now + (max(self._terms.retention, LINE_KEPT) if is_line(job.id) else self._terms.retention)
            tell_at = now + UNTOLD if job.notify else None
            try:
                held = await self._bulk.kept(job.id, f"result-{job.claims}", result)  # no other runner writes there
                ended = await self._store.finish_job(
                    job.id, job.runner, now=now, expires=expires, result=held, error=error, tell_at=tell_at
                )
                if ended or (doubt and await self._was_written(job)):
                    await self._over(job, FAILED if error else COMPLETED, now)
                    return True
                return False
            except StateError:
                doubt = True
                if time.monotonic() + AGAIN >= until:
                    raise
            await asyncio.sleep(AGAIN)

    async def _was_written(self, job: Job) -> bool:
        """Whether this runner's end of a job was written by a call that was never answered."""
        found = await self._store.find_job(job.id)
        if found is None or found.status not in (COMPLETED, FAILED):
            return False
        return (found.runner, found.claims) == (job.runner, job.claims)

    async def _over(self, job: Job, status: str, at: float) -> None:
        await self._bulk.forget(job.body)
        if job.notify:
            await self._announcer.tell_end_now(replace(job, status=status, finished_at=at))

    async def _failed(self, job: Job, error: PenstockError) -> None:
        """Try again after what may pass; else, and after so many tries, the job has failed."""
        passing = isinstance(error, PASSING) and not isinstance(error, UpstreamRefused)
        if passing:
            pause = min(BACKOFF * 2**job.failures, LONGEST) * random.uniform(0.5, 1.0)
            pause = max(pause, error.retry_after or 0.0)
            if pause >= self._left(job):
                error = self._late(error.public or error.message)
            elif job.attempts < self._terms.attempts:
                await self.give_back(job, pause, failed=True)
                return
        ENDED.add("failed")
        await self._end(job, error=failure.write(error))

    def _left(self, job: Job) -> float:
        """Seconds that the work on the job may still take, all its tries together."""
        if self._terms.time_limit is None or job.started_at is None:
            return math.inf
        return job.started_at + self._terms.time_limit - time.time()

    def _late(self, why: str) -> TaskTimeout:
        return TaskTimeout(f"The task was not done within its time limit of {self._terms.time_limit:g} seconds. {why}")

    async def park(self, job: Job) -> bool:
        """Have the job wait for its model, told again like any other, ever less often; ``False`` if it is not ours."""
        now = time.time()
        due_at = now + max(OVERDUE, now - job.created_at)
        parked = await self._store.release_job(job.id, job.runner, due_at=due_at, failed=False, parked=True)
        if parked:
            ENDED.add("parked")
        return parked

    async def give_back(self, job: Job, delay: float, *, failed: bool = False) -> None:
        """Queue the job again: the record first, and then its message, which may be lost."""
        due_at = time.time() + delay + OVERDUE
        if not await self._store.release_job(job.id, job.runner, due_at=due_at, failed=failed):
            return
        ENDED.add("given_back")
        with suppress(StateError):  # it is due, and so told again
            await self._queue.send(job.id, priority=job.priority, delay=delay)


def _try(job: Job) -> str:
    """The id of a try: one that a dead runner began is the same one, and charged once."""
    return f"{job.id}.{job.failures}"
