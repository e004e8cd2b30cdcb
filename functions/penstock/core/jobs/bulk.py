"""Bodies and answers of jobs that are too large for a record: kept as objects, which the record names.

A JSON document begins with ``{``, a reference with ``@``. The object is written first, then the record that names it; a
crash between the two leaves an object that nobody names, and that is swept in time.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace

from penstock.core.ports import Objects
from penstock.core.ports.objects import one, whole
from penstock.errors import JobError, NotFound, StateError
from penstock.schema.job import Job

log = logging.getLogger("penstock.jobs")

ROOM = 64 * 1024
"""Bytes that a record should hold at most, in a store that says nothing of it."""
FOLDER = "jobs"
SIGN = b"@"


class Bulk:
    """Keeps what has more than ``room`` bytes in ``objects``; without them, every document stays in its record."""

    def __init__(self, objects: Objects | None, room: int) -> None:
        self._objects = objects
        self._room = room

    async def kept(self, job_id: str, part: str, document: bytes) -> bytes:
        """What the record of a job is to hold: the document, or where it is. No two documents have one ``part``."""
        if self._objects is None or len(document) <= self._room:
            return document
        name = f"{FOLDER}/{job_id}/{part}"
        await self._objects.put(name, one(document))
        return SIGN + name.encode()

    async def whole(self, held: bytes) -> bytes:
        """The document that a record holds or names. Raises ``JobError`` if it is gone."""
        if not held.startswith(SIGN):
            return held
        if self._objects is None:
            raise JobError("This job's document is in another place than PENSTOCK_OBJECTS_URL says here.")
        try:
            return await whole(self._objects.get(held[1:].decode()))
        except NotFound:
            raise JobError("This job's document is gone.") from None

    async def answered(self, job: Job) -> Job:
        """The job with its answer in it."""
        return replace(job, result=await self.whole(job.result)) if job.result.startswith(SIGN) else job

    async def forget(self, held: bytes) -> None:
        """Forget the object that a record named; where it cannot be done now, it is swept later."""
        if held.startswith(SIGN) and self._objects is not None:
            with suppress(StateError):
                await self._objects.delete(held[1:].decode())
