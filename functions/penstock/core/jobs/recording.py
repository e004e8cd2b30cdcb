"""What a job says as it says it: told at once in the process that runs it, and written down for all others.

A row is written for the first payloads, soon again, and then every ``PACE`` seconds or ``ROW`` bytes: the writes of a
stream are bounded, however many tokens it has.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from weakref import WeakValueDictionary

from penstock.core.ports import Store
from penstock.core.sse import DONE
from penstock.errors import RequestTooLarge, StateError
from penstock.schema.job import Job

log = logging.getLogger("penstock.jobs")

SOON, PACE = 0.02, 0.25
"""Seconds between the first two rows, doubled from row to row, and at most."""
ROW = 32 * 1024
"""Bytes of payloads that are written at once."""
AGAIN, PATIENCE = 1.0, 30.0
"""Seconds between two tries to write what the store did not take, and for which the end of a stream is tried."""


class Channel:
    """What this process says of one job: the ``run`` that it is at (0 for none), and all ``payloads`` of it so far."""

    def __init__(self) -> None:
        self.run = 0
        self.payloads: list[bytes] = []
        self._news, self._stopped = asyncio.Event(), asyncio.Event()

    def begin(self, run: int, payloads: list[bytes]) -> None:
        """This process runs the job from now on."""
        self.run, self.payloads = run, payloads
        self._stopped.clear()
        self.wake()

    def end(self) -> None:
        """This process runs the job no more."""
        self.run, self.payloads = 0, []
        self.wake()

    def stop(self) -> None:
        """The job was cancelled."""
        self._stopped.set()
        self.wake()

    async def stopped(self, seconds: float) -> None:
        """Wait until the job was cancelled here, or so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()

    def wake(self) -> None:
        """Have everybody look who waits."""
        self._news.set()
        self._news = asyncio.Event()

    async def news(self, seconds: float | None = None) -> None:
        """Wait until something has happened to the job here, or so long."""
        if seconds is None:  # once a token: a timeout costs as much as the rest
            await self._news.wait()
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()


class Channels:
    """The channels of one process: one for each job that somebody here runs or follows."""

    def __init__(self) -> None:
        self._open: WeakValueDictionary[str, Channel] = WeakValueDictionary()

    def of(self, job_id: str) -> Channel:
        """The channel of a job, shared by all who hold it."""
        channel = self._open.get(job_id)
        if channel is None:
            channel = self._open[job_id] = Channel()
        return channel


class Recording:
    """One run of a job in this process. What a streamed one says is written down, and kept until ``expires``."""

    def __init__(self, store: Store, channel: Channel, job: Job, *, expires: float) -> None:
        self._store = store
        self._channel = channel
        self._job = job
        self._expires = expires
        self._payloads: list[bytes] = []
        self._written = 0
        self._waiting = 0
        self._said, self._full = asyncio.Event(), asyncio.Event()
        self._turn = asyncio.Lock()
        self._writer: asyncio.Task[None] | None = None
        self._lost = False

    def __enter__(self) -> Recording:
        self._channel.begin(self._job.claims, self._payloads)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._channel.end()

    def say(self, payloads: list[bytes]) -> None:
        """Tell payloads now, and have them written soon."""
        self._payloads += payloads
        self._channel.wake()
        self._said.set()
        self._waiting += sum(map(len, payloads))
        if self._waiting >= ROW:
            self._full.set()
        if self._writer is None:
            self._writer = asyncio.ensure_future(self._write())

    async def end(self) -> None:
        """Say that the answer is whole, and write what is not written yet: before the job's own end is.

        Raises ``StateError`` if the store does not take it for as long as a runner may hold on to a job.
        """
        self._stop()
        if not self._job.streamed:
            return
        self._payloads.append(DONE)
        self._channel.wake()
        until = time.monotonic() + PATIENCE
        while True:
            try:
                await self._flush()
            except StateError:
                if time.monotonic() + AGAIN >= until:
                    raise
                await asyncio.sleep(AGAIN)
            else:
                return

    async def give_up(self) -> None:
        """Write what was said before it failed, if the store takes it."""
        self._stop()
        with suppress(StateError):
            await self._flush()

    def _stop(self) -> None:
        if self._writer is not None:
            self._writer.cancel()

    async def _write(self) -> None:
        """Write rows at their pace, as long as there is something to write."""
        pause = SOON
        while not self._lost:
            await self._said.wait()
            self._said.clear()
            self._full.clear()
            try:
                await self._flush()
            except StateError as error:
                log.warning("a job's tokens are written later: %s", error, extra={"job_id": self._job.id})
                self._said.set()
                await asyncio.sleep(AGAIN)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._full.wait()
            pause = min(pause * 2, PACE)

    async def _flush(self) -> None:
        """Write what was said until now; what comes meanwhile waits for its turn."""
        async with self._turn:
            until, self._waiting = len(self._payloads), 0
            while not self._lost and (batch := self._batch(until)):
                try:
                    await self._store.append_chunks(
                        self._job.id, self._job.claims, self._written + 1, batch, expires=self._expires
                    )
                except RequestTooLarge as error:  # the answer stands in the result, if that can hold it
                    log.warning("a job's tokens cannot be kept: %s", error, extra={"job_id": self._job.id})
                    self._lost = True
                self._written += len(batch)

    def _batch(self, until: int) -> list[bytes]:
        """What the next row holds: a payload, and those after it that fit."""
        batch: list[bytes] = []
        size = 0
        for payload in self._payloads[self._written : until]:
            size += len(payload)
            if batch and size > ROW:
                break
            batch.append(payload)
        return batch
