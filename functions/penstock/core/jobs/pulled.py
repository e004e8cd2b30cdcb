"""Jobs that workers ask for: they go to engines that nobody can call, and their answers come back by themselves.

A job is claimed for its worker under a name of that one claim, the receipt. What the worker posts goes the way of every
answer, under the same id, so that it finds what was reserved when the job was handed over.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from penstock.core.fleet import Fleet
from penstock.core.gateway import Gateway
from penstock.core.jobs.runner import LEASE, JobRunner, Taken
from penstock.core.json import write
from penstock.core.ports import Correspondence, Posted, Store
from penstock.errors import ModelFull, PenstockError, StateError
from penstock.schema.job import CANCELLED, PROCESSING
from penstock.schema.worker import READY, Worker

log = logging.getLogger("penstock.jobs")

LOOK = 0.5
"""Seconds between two looks for jobs while a worker waits for some."""
PASSED_OVER = 5.0
"""Seconds after which a job comes again that this worker may not have: meanwhile another may take it."""

HELD, LOST, LATE, UNKNOWN = "held", "lost", "late", "unknown"
"""What a worker is told of a job: it has it still; it has it no more; what it posted changed nothing; what it posted is
of a job that was cancelled, and cannot be settled without the body that it was sent.
"""


class Handed(NamedTuple):
    """A job on its way to a worker: what to send to the engine, and for how many seconds it may take.

    ``bound`` names the field by which the house has bounded the answer: it must fit the model's context together with
    the prompt, which has ``prompt`` tokens at most.
    """

    id: str
    receipt: str
    endpoint: str
    body: dict[str, Any]
    seconds: float
    bound: str | None
    prompt: int


class PulledJobs:
    """What workers do with jobs that wait for their models: claim, renew, answer, give back."""

    def __init__(
        self, store: Store, fleet: Fleet, gateway: Gateway, runner: JobRunner, correspondence: Correspondence
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._gateway = gateway
        self._runner = runner
        self._letters = correspondence
        self._answering: set[asyncio.Task[None]] = set()

    async def claim(self, worker: Worker, *, most: int, wait: float) -> list[Handed]:
        """Up to ``most`` jobs of a worker's models, the first in line first, waiting for the first up to ``wait``."""
        end = time.monotonic() + wait
        while worker.routable(time.time()):
            handed = await self._take(worker, most)
            left = end - time.monotonic()
            if handed or left <= 0:
                return handed
            await asyncio.sleep(min(LOOK, left))
            now = await self._fleet.find(worker.id)
            if now is None or now.generation != worker.generation:
                break
            worker = now
        return []

    async def renew(self, worker: str, held: Mapping[str, str]) -> dict[str, str]:
        """Keep jobs, by their receipts, for a lease more; answers of each whether it is held, cancelled or lost."""
        states = await asyncio.gather(*(self._renew(worker, *each) for each in held.items()))
        return dict(zip(held, states, strict=True))

    async def answer(
        self, worker: str, job_id: str, receipt: str, posted: Posted, sent: dict[str, Any] | None = None
    ) -> str:
        """Take what an engine has answered to the job's end; answers the state that the job is in then.

        What comes late, or twice, changes nothing. ``sent`` is the body that the engine was sent: that of a job which
        was cancelled meanwhile is kept nowhere else. Raises ``StateError``: the worker shall try again.
        """
        job = await self._store.find_job(job_id)
        if job is None or not _is_of(receipt, worker, job.runner) or job.status not in (PROCESSING, CANCELLED):
            return LATE
        if job.status == CANCELLED:
            if sent is None:
                return UNKNOWN
            job = replace(job, body=write(sent | {"model": job.model}))
        known = await self._fleet.find(worker) or Worker(worker, "", "", (job.model,), READY, engine="sglang")
        place = self._fleet.place(known, job.model)
        taken = Taken(place, self._letters.read(place, posted), max(time.time() - _claimed_at(receipt), 0.0))
        task = asyncio.ensure_future(self._runner.attempt(job, taken))  # to its end, whether the worker waits or not
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)
        await asyncio.shield(task)
        found = await self._store.find_job(job_id)
        return found.status if found is not None else LATE

    async def release(self, worker: str, held: Mapping[str, str]) -> None:
        """Give back jobs that a worker does not end: they wait for their model again, in their old places."""
        for job_id, receipt in held.items():
            job = await self._store.find_job(job_id)
            if job is not None and job.status == PROCESSING and _is_of(receipt, worker, job.runner):
                await self._runner.park(job)

    async def close(self) -> None:
        """Let what was posted be taken to its end; idempotent."""
        await asyncio.gather(*self._answering, return_exceptions=True)

    async def _take(self, worker: Worker, most: int) -> list[Handed]:
        lines = await asyncio.gather(*(self._store.parked_jobs(model, limit=most) for model in worker.models))
        waiting = [(job, model) for model, line in zip(worker.models, lines, strict=True) for job in line]
        waiting.sort(key=lambda each: (-each[0].priority, each[0].created_at))
        handed: list[Handed] = []
        full: set[str] = set()
        for job, model in waiting:
            if len(handed) == most:
                break
            if model in full:
                continue
            try:
                one = await self._hand_over(worker, job.id)
            except ModelFull:
                full.add(model)
            except StateError as error:
                if not handed:
                    raise
                log.warning("a worker gets fewer jobs than there are: %s", error)
                break
            else:
                handed += [one] if one else []
        return handed

    async def _hand_over(self, worker: Worker, job_id: str) -> Handed | None:
        """Claim a job for a worker and have it admitted; ``None`` if that cannot be. Raises ``ModelFull``."""
        now = time.time()
        receipt = f"{worker.id}/{worker.generation}/{now:.3f}/{secrets.token_hex(4)}"
        job = await self._store.claim_job(job_id, receipt, now=now, lease=LEASE)
        if job is None or await self._runner.hopeless(job):
            return None
        place = self._fleet.place(worker, job.model)
        try:
            request = await self._runner.request(job)
            if not request.caller.may_reach(place):
                await self._runner.give_back(job, PASSED_OVER)
                return None
            request.worker = place
            call = await self._gateway.hand_over(request)
        except StateError:
            raise
        except PenstockError as error:
            await self._runner.refused(job, error)
            if isinstance(error, ModelFull):
                raise
            return None
        seconds = request.deadline - asyncio.get_running_loop().time()
        body, bound = self._letters.written(place, call), self._letters.bound(place, call)
        return Handed(job.id, receipt, job.endpoint, body, seconds, bound, call.prompt)

    async def _renew(self, worker: str, job_id: str, receipt: str) -> str:
        now = time.time()
        if not _is_of(receipt, worker, receipt):
            return LOST
        in_time = now - _claimed_at(receipt) < self._runner.longest + LEASE
        if in_time and await self._store.renew_job(job_id, receipt, now=now, lease=LEASE):
            return HELD
        job = await self._store.find_job(job_id)
        return CANCELLED if job is not None and job.runner == receipt and job.status == CANCELLED else LOST


def _is_of(receipt: str, worker: str, runner: str) -> bool:
    """Whether a receipt is this worker's, and of the claim under which the job is held."""
    return receipt == runner and receipt.startswith(f"{worker}/")


def _claimed_at(receipt: str) -> float:
    """When the job of a receipt was claimed, in seconds since the epoch; 0 if it is none of ours."""
    try:
        return float(receipt.split("/")[2])
    except (IndexError, ValueError):
        return 0.0
