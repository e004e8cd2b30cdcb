"""Takes messages off a queue and has their jobs run in this process, so many at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from penstock.core.jobs.runner import JobRunner
from penstock.core.ports import Message, Queue
from penstock.errors import JobError, StateError
from penstock.schema.job import Job

log = logging.getLogger("penstock.jobs")

HANDLING = 30.0
"""Seconds within which a message leads to a claim; from then on the job's own lease counts."""
WAIT = 10.0
"""Seconds that one call waits for messages."""
PAUSE = 2.0
"""Seconds before the queue or the store is asked again that did not answer."""


class Consumer:
    """Runs up to ``concurrency`` jobs at once. On closing, those under way have ``grace`` seconds to end.

    It outlives a configuration: ``follow`` gives it the next one's runner, and jobs under way go on as they are.
    """

    def __init__(self, queue: Queue, runner: JobRunner, *, concurrency: int, grace: float) -> None:
        self._queue = queue
        self._runner = runner
        self._concurrency = concurrency
        self._grace = grace
        self._handling = 0
        self._freed = asyncio.Event()
        self._receiving: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Take messages from now on; idempotent."""
        if self._concurrency and self._receiving is None:
            self._receiving = asyncio.ensure_future(self._receive())

    def follow(self, runner: JobRunner, *, concurrency: int, grace: float) -> None:
        """Have the next jobs run by this runner, so many at once."""
        self._runner, self._concurrency, self._grace = runner, concurrency, grace
        self._freed.set()

    async def close(self) -> None:
        """Take no more messages, let jobs end, and give back those that do not in time; idempotent."""
        if self._receiving is not None:
            self._receiving.cancel()
            await asyncio.gather(self._receiving, return_exceptions=True)
        if self._running:
            await asyncio.wait(self._running, timeout=self._grace)
        for task in (left := tuple(self._running)):
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _receive(self) -> None:
        while True:
            while self._handling >= self._concurrency:
                self._freed.clear()
                await self._freed.wait()
            try:
                messages = await self._queue.receive(most=1, lease=HANDLING, wait=WAIT)
            except StateError as error:
                log.warning("the queue of jobs is asked again later: %s", error)
                messages = []
                await asyncio.sleep(PAUSE)
            for message in messages:
                self._handling += 1
                task = asyncio.ensure_future(_guarded(message.job_id, self._handle(message)))
                self._running.add(task)
                task.add_done_callback(self._handled)

    def adopt(self, job_id: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a job that no message told of, beside the others; it is to be ended with them."""
        task = asyncio.ensure_future(_guarded(job_id, work))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def _handled(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._handling -= 1
        self._freed.set()

    async def _handle(self, message: Message) -> None:
        runner = self._runner
        job = await self._claim(message, runner)
        if job is not None:
            await runner.work(job)

    async def _claim(self, message: Message, runner: JobRunner) -> Job | None:
        """Take the job, and then its message off the queue: from now on the job's own lease sees to it."""
        try:
            job = await runner.claim(message.job_id)
        except JobError as error:
            log.error("a message names no job: %s", error)
            await self._queue.release(message, PAUSE)
            return None
        except StateError:
            with suppress(StateError):
                await self._queue.release(message, PAUSE)
            raise
        with suppress(StateError):
            await self._queue.done(message)
        return job


async def _guarded(job_id: str, work: Coroutine[Any, Any, None]) -> None:
    """Run one job; whatever happens to it, others go on."""
    try:
        await work
    except StateError as error:
        log.warning("a job is run later: %s", error, extra={"job_id": job_id})
    except Exception:  # its lease runs out, and it is told again until it has been begun too often
        log.exception("a job failed in a way that nobody foresaw", extra={"job_id": job_id})
