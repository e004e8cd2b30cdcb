"""Work that outlives its request: run under a lease by whoever claims it; and the house's regular chores."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from penstock.core.gateway import Gateway
from penstock.core.health import Prober
from penstock.core.json import parse
from penstock.core.limits.reaper import Reaper
from penstock.core.ports import Store
from penstock.errors import JobError, PenstockError, RateLimited, StateError
from penstock.schema.job import COMPLETED, FAILED, Job
from penstock.schema.key import Caller
from penstock.schema.request import Request

LEASE = 900.0
"""Seconds that a runner may take, the longest that a Lambda function lives."""
RETENTION = 93 * 86400.0
"""Seconds for which outcomes are kept: GET /v1/usage tells up to 92 days."""


class JobRunner:
    """Runs jobs that messages point to: ``{"job_id": "…"}``."""

    def __init__(self, store: Store, gateway: Gateway, *, runner: str) -> None:
        self._store = store
        self._gateway = gateway
        self._runner = runner

    async def run(self, message: str) -> None:
        """Run the job to its end, once.

        Returns if the job has ended, by this runner or another. Raises ``JobError`` if the message names no job or
        another runner holds it, so that the queue delivers the message again and puts it aside at last.
        """
        job = await self._claim(message)
        if job is None:
            return
        request: Request | None = None
        try:
            request = _request(job)
            result = await self._gateway.complete(request)
        except (StateError, RateLimited):
            raise  # the queue delivers the message again
        except PenstockError as error:
            await self._store.finish_job(job.id, self._runner, now=time.time(), error=f"{error.code}: {error.message}")
        else:
            await self._store.finish_job(job.id, self._runner, now=time.time(), result=result)
        if request is not None:
            await self._gateway.settled(request)

    async def _claim(self, message: str) -> Job | None:
        try:
            document: Any = parse(message)
            job_id = document["job_id"]
        except (ValueError, KeyError, TypeError):
            raise JobError("the message is not {'job_id': '…'}") from None
        if not isinstance(job_id, str):
            raise JobError("the message's job_id is not a string")
        job = await self._store.claim_job(job_id, self._runner, now=time.time(), lease=LEASE)
        if job is not None:
            return job
        found = await self._store.find_job(job_id)
        if found is None:
            raise JobError(f"there is no job {job_id}")
        if found.status in (COMPLETED, FAILED):
            return None
        raise JobError(f"job {job_id} is being run by another runner")


class Housekeeper:
    """The chores that some process must do now and then; doing them twice does no harm."""

    def __init__(self, store: Store, reaper: Reaper, prober: Prober) -> None:
        self._store = store
        self._reaper = reaper
        self._prober = prober

    async def run(self) -> dict[str, int]:
        """End lost holds, look at providers, forget old outcomes; answers what was done, in numbers."""
        lost = await self._reaper.run()
        looked = await self._prober.run()
        pruned = await self._store.prune_outcomes(time.time() - RETENTION)
        return {
            "holds_ended": lost,
            "registry_version": looked.registry.version,
            "models": len(looked.registry.cards),
            "providers_down": looked.down,
            "outcomes_pruned": pruned,
        }


def _request(job: Job) -> Request:
    try:
        body: Any = parse(job.body)
        model = body["model"]
    except (ValueError, KeyError, TypeError):
        raise JobError(f"the body of job {job.id} is not a request") from None
    deadline = asyncio.get_running_loop().time() + LEASE
    return Request(job.id, job.endpoint, model, body, False, Caller(job.key_id), deadline, size=len(job.body))
