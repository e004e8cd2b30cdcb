"""Following a job on any process, from wherever a reader stopped to its end."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from typing import NamedTuple

from penstock.core.jobs.bulk import Bulk
from penstock.core.jobs.recording import Channel, Channels
from penstock.core.ports import Store
from penstock.core.sse import DONE
from penstock.errors import InvalidRequest, NotFound
from penstock.schema.job import CANCELLED, COMPLETED, FAILED, OPEN, Job

FIRST_LOOK, LONGEST_LOOK = 0.1, 1.0
"""Seconds between two looks at a job that another process runs: they grow while nothing is new, for each is a read."""
NEXT_LOOK = 0.2
"""Seconds from something new to the next look: rows come every 0.25 s."""
STATUS = 1.0
"""Seconds between two looks at the record of a job that says nothing."""


class Place(NamedTuple):
    """Where a reader stands: the run, and the number of the last payload that was read of it."""

    run: int
    number: int

    def __str__(self) -> str:
        return f"{self.run}-{self.number}"

    @classmethod
    def read(cls, text: str) -> Place:
        """The place that an event's id names. Raises ``InvalidRequest`` if it names none."""
        run, dash, number = text.strip().partition("-")
        if not dash or not all(part.isascii() and part.isdigit() and len(part) <= 9 for part in (run, number)):
            raise InvalidRequest(f"Last-Event-ID: {text[:40]!r} is no id of an event here.", param="Last-Event-ID")
        return cls(int(run), int(number))


class Began(NamedTuple):
    """A run has begun. ``anew``: the one before was given up, and what was read of it is void."""

    run: int
    anew: bool


class Said(NamedTuple):
    """Payloads of a run, numbered from ``first``."""

    run: int
    first: int
    payloads: list[bytes]


class Ended(NamedTuple):
    """The job has ended. ``whole``: what it said was read to its end; if not, its answer stands in the job alone."""

    job: Job
    whole: bool


Event = Began | Said | Ended


class Follower:
    """Follows jobs: at once in the process that runs them, elsewhere by looking at the store."""

    def __init__(self, store: Store, channels: Channels, bulk: Bulk) -> None:
        self._store = store
        self._channels = channels
        self._bulk = bulk

    async def follow(self, job: Job, after: Place | None = None) -> AsyncGenerator[Event, None]:
        """What happens to a job, from the start of its present run, or from ``after`` a place, to its end.

        Raises ``InvalidRequest`` if there was never such a run, ``NotFound`` once the job is forgotten, ``StateError``.
        """
        if after is not None and not 0 < after.run <= job.claims:
            raise InvalidRequest(f"Last-Event-ID: {after} is of no run of this job.", param="Last-Event-ID")
        reader = _Reader(self._store, self._channels.of(job.id), job, after or Place(0, 0))
        while True:
            if began := reader.began():
                yield began
            if said := await reader.said():
                yield said
            elif ended := await reader.ended():
                yield ended._replace(job=await self._bulk.answered(ended.job))
                return


class _Reader:
    """Where one reader stands, and what is known to it of the job."""

    def __init__(self, store: Store, channel: Channel, job: Job, place: Place) -> None:
        self._store = store
        self._channel = channel
        self._job = job
        self._run, self._seen = place
        self._whole = False
        self._ending = job.status not in OPEN
        self._behind = True
        self._pause = 0.0
        self._looked = time.monotonic()

    def began(self) -> Began | None:
        """The run that has begun since, if one has. After a failure the end is all that there is to tell."""
        newest = max(self._job.claims if self._job.started_at is not None else 0, self._channel.run)
        if newest <= self._run or (self._run and self._job.status in (FAILED, CANCELLED)):
            return None
        began = Began(newest, anew=self._run > 0)
        self._run, self._seen, self._whole = newest, 0, False
        self._behind, self._pause = True, 0.0
        return began

    async def said(self) -> Said | None:
        """What was said since; of another process's job after a pause."""
        found = self._channel.payloads[self._seen :] if self._here else await self._read()
        first, self._seen = self._seen + 1, self._seen + len(found)
        if found and found[-1] == DONE:
            self._whole = True
            found = found[:-1]
        return Said(self._run, first, found) if found else None

    async def ended(self) -> Ended | None:
        """The end, if the job had ended already before nothing more was found; else wait here, or look at the job."""
        if self._here:
            await self._channel.news()
        elif self._ending:
            return Ended(self._job, await self._is_whole())
        elif self._whole or not self._run or time.monotonic() - self._looked >= STATUS:
            self._looked = time.monotonic()
            found = await self._store.find_job(self._job.id)
            if found is None:
                raise NotFound(f"There is no job {self._job.id!r} any more.")
            self._job, self._ending = found, found.status not in OPEN
        return None

    @property
    def _here(self) -> bool:
        """Whether this process is at the run that is read."""
        return self._run > 0 and self._channel.run == self._run

    async def _read(self) -> list[bytes]:
        if self._pause and not self._ending:
            await self._channel.news(self._pause)
        found: list[bytes] = []
        if self._run and self._job.streamed and not self._whole:
            found = await self._store.read_chunks(self._job.id, self._run, after=self._seen)
        if found:
            self._pause = 0.0 if self._behind else NEXT_LOOK
        else:
            self._behind = False
            self._pause = min(max(self._pause * 1.5, FIRST_LOOK), LONGEST_LOOK)
        return found

    async def _is_whole(self) -> bool:
        """Whether everything was read; who had read the very end before finds it again, one step back."""
        if self._whole or not (self._seen and self._job.streamed and self._job.status == COMPLETED):
            return self._whole
        return await self._store.read_chunks(self._job.id, self._run, after=self._seen - 1) == [DONE]
