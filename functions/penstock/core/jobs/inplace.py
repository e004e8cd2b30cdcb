"""Jobs that a caller waits for: run by the process that accepts them, at once, without a message."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

from penstock.core.gateway import Gateway
from penstock.core.jobs.consumer import Consumer
from penstock.core.jobs.runner import LEASE, JobRunner, See
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

    async def start(self, request: Request, see: See | None = None) -> Job:
        """Have a request admitted by all its limits, accept it as a job, and run it; answers the job as it is then.

        ``see`` may change the payloads of its stream before anybody gets them. Until the job is accepted, a failure is
        raised and a cancellation ends everything, and no job is left; from then on the job has an end of its own.
        """
        await self._gateway.admit(request)
        requests, now = request.standing, time.time()
        draft = self._submissions.draft(request)
        until = now + LEASE
        job = replace(draft, status=PROCESSING, runner=self._runner.name, attempts=1, claims=1, started_at=now)
        job = replace(job, lease_until=until, due_at=until)
        accepted: asyncio.Future[Job] = asyncio.get_running_loop().create_future()

        async def accept() -> None:
            accepted.set_result(await self._submissions.keep(job))
            request.accepted = None

        async def run() -> None:
            try:
                await self._runner.serve(job, request, see)
            except PenstockError as error:
                if accepted.done():
                    raise
                accepted.set_exception(error)

        request.accepted = accept
        running = self._consumer.adopt(job.id, run())
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
