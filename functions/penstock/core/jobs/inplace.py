"""Jobs that a caller waits for: run by the process that accepts them, at once, without a message."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from penstock.core.gateway import Gateway
from penstock.core.jobs.consumer import Consumer
from penstock.core.jobs.runner import LEASE, JobRunner, See, Told
from penstock.core.jobs.submission import Submissions
from penstock.errors import PenstockError
from penstock.schema.job import PROCESSING, Job
from penstock.schema.request import Request


class InPlace:
    """Makes jobs that this process runs from their first moment on; when it dies, others take them over."""

    def __init__(self, gateway: Gateway, submissions: Submissions, runner: JobRunner, consumer: Consumer) -> None:
        self._gateway = gateway
        self._submissions = submissions
        self._runner = runner
        self._consumer = consumer
        self._running: dict[str, asyncio.Task[None]] = {}

    async def start(self, request: Request, see: See | None = None) -> Job:
        """Have a request admitted by all its limits, accept it as a job, and run it; answers the job as it is then.

        ``see`` may change the payloads of its stream before anybody gets them. Until the job is accepted, a failure is
        raised and a cancellation ends everything, and no job is left; from then on the job has an end of its own.
        """
        await self._gateway.admit(request)
        requests = request.standing
        job = self._mine((await self._submissions.draft(request)).job)
        accepted: asyncio.Future[Job] = asyncio.get_running_loop().create_future()

        async def accept() -> None:
            accepted.set_result(await self._submissions.keep(job, None))
            request.accepted = None

        async def run() -> None:
            try:
                await self._runner.serve(job, request, see)
            except PenstockError as error:
                if accepted.done():
                    raise
                accepted.set_exception(error)

        request.accepted = accept
        running = self._run(job, run())
        first: list[asyncio.Future[Any]] = [accepted, running]
        try:
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if not accepted.done():
                running.cancel()
            raise
        if not accepted.done():
            raise PenstockError("The request could not be begun; the log tells why.")
        if requests is not None and request.standing is not None:
            request.standing = requests._replace(tokens=request.standing.tokens)
        return accepted.result()

    async def start_once(self, request: Request, key: str, see: See | None = None, told: Told | None = None) -> Job:
        """Accept a request as the job of its idempotency ``key``, and run it; ``told`` may change a whole answer.

        It is accepted before its limits of tokens, slots and money are asked, so that of two who send it at once only
        one takes of them: what they say is how the job fails. Raises ``Repeated`` for a repeat, and ``CallerError``.
        """
        job, seen = await self._submissions.draft(request, key)
        await self._gateway.admit(request)
        job = await self._submissions.keep(replace(self._mine(job), model=request.model), seen)
        self._run(job, self._runner.serve(job, request, see, told))
        return job

    async def ended(self, job: Job, seconds: float) -> Job:
        """The job once it has ended, or as it is after so many seconds: at once if it is run here."""
        began = time.monotonic()
        if running := self._running.get(job.id):
            await asyncio.wait({running}, timeout=seconds)
        return await self._submissions.ended(job, max(seconds - (time.monotonic() - began), 0.0))

    def _mine(self, draft: Job) -> Job:
        now = time.time()
        until = now + LEASE
        job = replace(draft, status=PROCESSING, runner=self._runner.name, attempts=1, claims=draft.claims + 1)
        return replace(job, started_at=now, lease_until=until, due_at=until)

    def _run(self, job: Job, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        running = self._running[job.id] = self._consumer.adopt(job.id, work)
        running.add_done_callback(lambda _: self._running.pop(job.id, None))
        return running
