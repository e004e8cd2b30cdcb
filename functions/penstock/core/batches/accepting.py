"""What callers do with batches: hand one in, look how far it is, cancel it. A batch is private to its key."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from penstock.core.batches.answers import CANCELLED
from penstock.core.batches.driver import CHUNK, SPAN
from penstock.core.batches.ending import stopped
from penstock.core.files.shelf import Shelf
from penstock.core.jobs.submission import WAITING
from penstock.core.json import to_json
from penstock.core.ports import Queue, Store
from penstock.errors import BatchEnded, InvalidRequest, NotFound, StateConflict, StateError
from penstock.schema import batch as states
from penstock.schema.batch import ENDPOINT, PREFIX, Batch
from penstock.schema.file import BATCH
from penstock.schema.job import Job
from penstock.schema.key import Caller

BEGUN = 60.0
"""Seconds after which the job of a new batch is told again: its first message comes when the batch is written."""


class Batches:
    """The callers' side of batches."""

    def __init__(self, store: Store, queue: Queue, files: Shelf) -> None:
        self._store = store
        self._queue = queue
        self._files = files

    async def create(
        self, caller: Caller, *, file_id: str, endpoint: str, window: tuple[str, float], metadata: str, seconds: int
    ) -> Batch:
        """Accept a batch: once this returns, it ends, whatever dies. ``window`` is as its caller said it, in seconds.

        Its job comes first, then the batch, then the message: a crash between leaves a job without a batch, which
        ends. Raises ``NotFound`` or ``InvalidRequest`` for a file that is no input of a batch.
        """
        file = await self._files.find(file_id, caller.key_id)
        if file.purpose != BATCH:
            raise InvalidRequest(
                f"input_file_id: the file's purpose is {file.purpose!r}; send it with purpose 'batch'.",
                param="input_file_id",
            )
        now = time.time()
        batch = Batch(
            id=f"{PREFIX}{int(now * 1e6):014x}{secrets.token_hex(8)}",
            key_id=caller.key_id,
            endpoint=endpoint,
            input_file_id=file_id,
            completion_window=window[0],
            created_at=now,
            expires_at=now + window[1],
            kept_until=now + window[1] + self._files.terms.retention,
            priority=caller.priority,
            metadata=metadata,
            output_seconds=seconds,
        )
        job = Job(
            *(batch.id, "", ENDPOINT, to_json({"key_id": caller.key_id}), now),
            priority=caller.priority,
            due_at=now + BEGUN,
            expires_at=now + window[1] + WAITING,
        )
        await self._store.create_job(job)
        await self._store.create_batch(batch)
        await self._tell(batch)
        return batch

    async def find(self, id: str, caller: Caller) -> Batch:
        """A caller's own batch. Raises ``NotFound`` for every other."""
        batch = await self._store.find_batch(caller.key_id, id)
        if batch is None or batch.kept_until <= time.time():
            raise NotFound(f"There is no batch {id[:80]!r}.")
        return batch

    async def listed(self, caller: Caller, *, limit: int, after: str = "") -> Sequence[Batch]:
        """A caller's batches, newest first."""
        return await self._store.list_batches(caller.key_id, now=time.time(), limit=limit, after=after)

    async def cancel(self, id: str, caller: Caller) -> Batch:
        """Have no more lines begun, and those under way ended; what has answers is kept. Raises ``BatchEnded``."""
        while True:
            batch = await self.find(id, caller)
            if batch.status == states.CANCELLING:
                return batch
            if batch.status in states.ENDED:
                raise BatchEnded(f"This batch is {batch.status}: there is nothing left to cancel.")
            cancelled = replace(
                batch if batch.stopped else stopped(batch, CANCELLED, CHUNK, SPAN),
                status=states.CANCELLING,
                cancelling_at=time.time(),
                revision=batch.revision + 1,
            )
            with suppress(StateConflict):  # it has come on meanwhile
                await self._store.replace_batch(cancelled)
                await self._tell(batch)
                return cancelled

    async def _tell(self, batch: Batch) -> None:
        with suppress(StateError):  # its job is due soon, and so told again
            await self._queue.send(batch.id, priority=batch.priority)
