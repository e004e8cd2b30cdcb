"""Drives a batch in short turns: each claims it, does what can be done now, writes how far it is, and gives it back.

Nothing waits here: what a batch waits for are its lines, which are ordinary jobs. Whatever a turn does before its one
conditional write is the same when another turn does it again: a line has one id, a part of an answer file one content.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar

from penstock.core.batches import answers, ending
from penstock.core.batches.lines import Inspection, Line, LineTooLong, Mistake, custom_id, read_lines, request_of
from penstock.core.files.shelf import Shelf
from penstock.core.jobs import failure
from penstock.core.jobs.bulk import SIGN, Bulk
from penstock.core.jobs.submission import OVERDUE, WAITING
from penstock.core.json import to_json, write
from penstock.core.ports import Queue, Store
from penstock.errors import InvalidRequest, JobError, NotFound, StateConflict, StateError
from penstock.schema import batch as states
from penstock.schema.batch import DONE_LINE, DROPPED_LINE, FAILED_LINE, LINE_KEPT, OPEN_LINE, Batch
from penstock.schema.config import BatchSection
from penstock.schema.file import part_of
from penstock.schema.job import CANCELLED, COMPLETED, FAILED, OPEN, QUEUED, Job

log = logging.getLogger("penstock.batches")

CHUNK = 256
"""Lines whose answers are one part of a file."""
SPAN = 4 * CHUNK
"""Lines from the first whose answer is not in its file yet to the last that is a job."""
TURN = 5.0
"""Seconds for which a turn goes on with making jobs: then it says how far it is, and the next one goes on."""
MISTAKES = 20
"""Mistakes in an input that are told."""
TOGETHER = 16
"""Calls to the store under way at once."""
GROUP = 4 * 1024 * 1024
"""Bytes of lines that are held at once, give or take one line."""

T = TypeVar("T")
U = TypeVar("U")


class Driver:
    """Takes turns of batches. A line may have ``longest`` bytes."""

    def __init__(
        self, store: Store, queue: Queue, files: Shelf, bulk: Bulk, section: BatchSection, *, longest: int
    ) -> None:
        self._store = store
        self._queue = queue
        self._files = files
        self._bulk = bulk
        self._section = section
        self._longest = longest

    async def advance(self, batch: Batch) -> Batch:
        """Do what can be done now; answers the batch as it is then. Raises ``StateConflict`` if another changed it."""
        try:
            if batch.in_progress_at is None:
                batch = await self._validated(batch)
                if batch.status in states.ENDED:
                    return batch
            now = time.time()
            if now >= batch.expires_at and not batch.stopped and batch.status == states.IN_PROGRESS:
                batch = ending.stopped(batch, answers.EXPIRED, CHUNK, SPAN)
            after, spent = await self._flushed(await self._submitted(await self._collected(batch)))
        except NotFound:
            gone = Mistake("file_not_found", "The input file was forgotten while the batch was under way.")
            return await self._failed(batch, [gone])
        if after.flushed * CHUNK >= after.total:
            after = await ending.published(after, self._files, self._store)
        if after != batch or after.stopped:
            after = await self._saved(after)
        for held in spent:
            await self._bulk.forget(held)
        return after

    # before the first line

    async def _validated(self, batch: Batch) -> Batch:
        """The batch in progress, its lines counted; or failed, and why; or cancelled before anything was begun."""
        if batch.status == states.CANCELLING:
            return await self._saved(replace(batch, status=states.CANCELLED, cancelled_at=time.time()))
        mistakes: list[Mistake] = []
        total, inspection = 0, Inspection(batch.endpoint)
        try:
            file = await self._files.find(batch.input_file_id, batch.key_id)
            async with aclosing(read_lines(self._files.content(file), longest=self._longest)) as lines:
                async for line in lines:
                    total += 1
                    if mistake := inspection.mistake(line):
                        mistakes.append(mistake)
                    if total > self._section.max_lines or len(mistakes) == MISTAKES:
                        break
        except LineTooLong as error:
            mistakes.append(Mistake("line_too_long", f"This line has more than {self._longest} bytes.", error.row))
        if total > self._section.max_lines:
            words = f"The input file has more than {self._section.max_lines} lines."
            mistakes.append(Mistake("too_many_lines", words, param="input_file_id"))
        if not total and not mistakes:
            mistakes.append(Mistake("empty_file", "The input file has no lines.", param="input_file_id"))
        if mistakes:
            return await self._failed(replace(batch, total=total), mistakes)
        for kind in ending.KINDS:
            with suppress(StateConflict):
                await self._files.begin(batch.key_id, file_id=ending.file_id(batch, kind), until=batch.kept_until)
        now = time.time()
        return await self._saved(replace(batch, status=states.IN_PROGRESS, in_progress_at=now, total=total))

    async def _failed(self, batch: Batch, mistakes: Sequence[Mistake]) -> Batch:
        now = time.time()
        for number, mark in enumerate(batch.marks, batch.flushed * CHUNK):
            if mark == OPEN_LINE:
                await self._store.cancel_job(batch.line(number), now=now, expires=now + LINE_KEPT)
        errors = to_json([mistake.told() for mistake in mistakes]).decode()
        return await self._saved(replace(batch, status=states.FAILED, failed_at=now, errors=errors))

    # lines on their way

    async def _collected(self, batch: Batch) -> Batch:
        """Mark the lines that have ended since the last turn; those of a batch that is stopped are ended now."""
        first = batch.flushed * CHUNK
        asked = [number for number, mark in enumerate(batch.marks) if mark == OPEN_LINE]
        found = await _each([first + number for number in asked], partial(self._mark, batch))
        marks = list(batch.marks)
        for number, mark in zip(asked, found, strict=True):
            marks[number] = mark
        return _counted(replace(batch, marks="".join(marks)), found)

    async def _mark(self, batch: Batch, number: int) -> str:
        job = await self._store.find_job(batch.line(number))
        if job is not None and job.status in OPEN and batch.stopped:
            now = time.time()
            if await self._store.cancel_job(job.id, now=now, expires=now + LINE_KEPT):
                await self._bulk.forget(job.body)
            job = await self._store.find_job(job.id)
        if job is not None and job.status in OPEN:
            return OPEN_LINE
        return DONE_LINE if job is not None and job.status == COMPLETED else FAILED_LINE

    async def _submitted(self, batch: Batch) -> Batch:
        """Make jobs of as many lines as may be open; of a batch that is stopped, none that anybody runs."""
        submitted = batch.flushed * CHUNK + len(batch.marks)
        room = SPAN - len(batch.marks)
        if not batch.stopped:
            room = min(room, self._section.window - batch.marks.count(OPEN_LINE))
        last = min(submitted + room, batch.total) - 1
        if submitted > last:
            return batch
        group: list[Line] = []
        began = time.monotonic()
        async with aclosing(self._lines(batch, batch.offset, submitted)) as lines:
            async for line in lines:
                group.append(line)
                if line.number == last or len(group) == TOGETHER or sum(len(each.raw) for each in group) > GROUP:
                    marks = await _each(group, partial(self._made, batch))
                    batch = _counted(replace(batch, marks=batch.marks + "".join(marks), offset=line.end), marks)
                    group = []
                    if line.number == last or time.monotonic() - began > TURN:
                        break
        return batch

    async def _lines(self, batch: Batch, offset: int, number: int) -> AsyncGenerator[Line, None]:
        file = await self._files.find(batch.input_file_id, batch.key_id)
        pieces = self._files.content(file, offset)
        async with (
            aclosing(pieces),
            aclosing(read_lines(pieces, longest=self._longest, offset=offset, number=number)) as lines,
        ):
            async for line in lines:
                yield line

    async def _made(self, batch: Batch, line: Line) -> str:
        """Make a line the job that it is, once; answers what is known of it."""
        if batch.stopped and line.number >= batch.fence:
            return DROPPED_LINE
        job = await self._job(batch, line)
        try:
            await self._store.create_job(job)
        except StateConflict:
            return OPEN_LINE
        if job.status != QUEUED:
            return FAILED_LINE
        with suppress(StateError):  # it is due soon, and so told again
            await self._queue.send(job.id, priority=job.priority)
        return OPEN_LINE

    async def _job(self, batch: Batch, line: Line) -> Job:
        now, endpoint = time.time(), batch.endpoint.removeprefix("/v1/")
        job = Job(batch.line(line.number), batch.key_id, endpoint, b"", now, priority=batch.priority - 1)
        ended = replace(job, finished_at=now, expires_at=now + LINE_KEPT)
        if batch.stopped:  # whoever still drives this batch without knowing must find that the line is taken
            return replace(ended, status=CANCELLED)
        try:
            request = request_of(line.raw, endpoint)
            body = await self._bulk.kept(job.id, "body", write(request))
        except InvalidRequest as error:
            return replace(ended, status=FAILED, error=failure.write(error))
        return replace(job, body=body, model=request["model"], due_at=now + OVERDUE, expires_at=now + WAITING)

    # answers

    async def _flushed(self, batch: Batch) -> tuple[Batch, list[bytes]]:
        """Write the answers of every chunk that has ended; answers what they leave to be forgotten as well."""
        spent: list[bytes] = []
        if batch.status == states.IN_PROGRESS and self._all_ended(batch):
            batch = replace(batch, status=states.FINALIZING, finalizing_at=time.time())
            batch = await self._saved(batch)
        while (marks := batch.marks[:CHUNK]) and OPEN_LINE not in marks:
            first = batch.flushed * CHUNK
            if len(marks) < CHUNK and first + len(marks) < batch.total:
                break
            names, end = await self._names(batch, first, len(marks))
            sizes = [
                await self._files.objects.put(
                    part_of(ending.file_id(batch, kind), batch.flushed), self._part(batch, kind, first, names, spent)
                )
                for kind in ending.KINDS
            ]
            batch = replace(
                batch,
                flushed=batch.flushed + 1,
                chunk_offset=end,
                marks=batch.marks[len(marks) :],
                output_size=batch.output_size + sizes[0],
                error_size=batch.error_size + sizes[1],
            )
        return batch, spent

    async def _names(self, batch: Batch, first: int, count: int) -> tuple[list[str], int]:
        """Whom the lines of a chunk name, and where the next chunk begins."""
        names: list[str] = []
        async with aclosing(self._lines(batch, batch.chunk_offset, first)) as lines:
            async for line in lines:
                names.append(custom_id(line.raw))
                if len(names) == count:
                    return names, line.end
        raise NotFound("The input file is shorter than it was.")

    async def _part(
        self, batch: Batch, kind: str, first: int, names: Sequence[str], spent: list[bytes]
    ) -> AsyncGenerator[bytes, None]:
        """A chunk's lines for one of the two files."""
        done = kind == "output"
        wanted = [number for number in range(len(names)) if (batch.marks[number] == DONE_LINE) is done]
        for start in range(0, len(wanted), TOGETHER):
            group = wanted[start : start + TOGETHER]
            jobs = await asyncio.gather(*(self._run(batch, first, number) for number in group))
            for number, job in zip(group, jobs, strict=True):
                yield await self._line(batch, batch.line(first + number), names[number], job)
                if job is not None and job.result.startswith(SIGN):
                    spent.append(job.result)

    async def _run(self, batch: Batch, first: int, number: int) -> Job | None:
        """The job that a line was, if it was one."""
        if batch.marks[number] == DROPPED_LINE:
            return None
        return await self._store.find_job(batch.line(first + number))

    async def _line(self, batch: Batch, line_id: str, name: str, job: Job | None) -> bytes:
        """What is written of a line: of large answers one is held at a time."""
        if job is None or job.status != COMPLETED:
            return answers.failed(line_id, name, job, batch.stopped)
        try:
            answer = await self._bulk.whole(job.result)
        except JobError:
            return answers.failed(line_id, name, None, "")
        return answers.answered(line_id, name, job, answer)

    def _all_ended(self, batch: Batch) -> bool:
        return OPEN_LINE not in batch.marks and batch.flushed * CHUNK + len(batch.marks) == batch.total

    async def _saved(self, batch: Batch) -> Batch:
        batch = replace(batch, revision=batch.revision + 1)
        await self._store.replace_batch(batch)
        return batch


def _counted(batch: Batch, marks: Sequence[str]) -> Batch:
    """The batch with these lines counted that have ended."""
    done = sum(mark == DONE_LINE for mark in marks)
    failed = sum(mark in (FAILED_LINE, DROPPED_LINE) for mark in marks)
    return replace(batch, completed=batch.completed + done, failed=batch.failed + failed)


async def _each(things: Sequence[T], work: Callable[[T], Awaitable[U]]) -> list[U]:
    """The results of some work on each thing, a few at a time."""
    found: list[U] = []
    for start in range(0, len(things), TOGETHER):
        found += await asyncio.gather(*map(work, things[start : start + TOGETHER]))
    return found
