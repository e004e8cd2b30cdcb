"""What a repeat under the same ``Idempotency-Key`` finds: the answer to the first request, or that it is under way."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256

from penstock.core.ports import Store
from penstock.errors import KeyInUse, StateConflict, StateError
from penstock.schema.job import COMPLETED, PROCESSING, Job
from penstock.schema.request import Request

LEASE = 30.0
"""Seconds for which a process that dies while it serves the first request keeps its repeats waiting."""
RENEWED = 10.0
PATIENCE = 10.0
"""Seconds for which a repeat waits for the first request to end."""
FIRST_LOOK, LONGEST_LOOK = 0.05, 1.0
FORGOTTEN = 60.0
"""Seconds after which a request is forgotten that was not served; its repeat is served at once."""


def named(kind: str, who: str, key: str) -> str:
    """The id of what a caller does under an idempotency key; the key itself is kept nowhere."""
    return f"{kind}_{sha256(chr(0).join((who, key)).encode()).hexdigest()[:40]}"


def digest_of(request: Request) -> str:
    """Tells a request from every other, whatever the order of its fields."""
    body = json.dumps(request.body, sort_keys=True, separators=(",", ":"))
    return sha256(f"{request.endpoint} {body}".encode()).hexdigest()


class Repeats:
    """Requests for anything but a generation, each served once a key: jobs that their own process runs in place."""

    def __init__(self, store: Store, *, retention: float) -> None:
        self._store = store
        self._retention = retention

    async def begin(self, who: str, key: str, endpoint: str, server: str) -> Job:
        """The first request under this key, for this ``server`` to serve; or the one that was served, completed.

        Raises ``KeyInUse`` if another is still at it after some seconds.
        """
        name, end, pause = named("once", who, key), time.monotonic() + PATIENCE, FIRST_LOOK
        while True:
            now = time.time()
            first = Job(name, who, endpoint, b"", now, PROCESSING, server, now + LEASE, claims=1)
            first = replace(first, expires_at=now + self._retention)
            found = await self._store.find_job(name)
            if found is None:
                with suppress(StateConflict):
                    await self._store.create_job(first)
                    return first
            elif found.status == COMPLETED and (found.expires_at or now) > now:
                return found
            elif found.status == PROCESSING and found.lease_until > now:
                if time.monotonic() > end:
                    raise KeyInUse("The first request with this Idempotency-Key is still being served.", retry_after=1)
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, LONGEST_LOOK)
            else:
                first = replace(first, claims=found.claims + 1)
                if await self._store.replace_job(first, seen=found):
                    return first

    async def renew(self, job: Job) -> None:
        """Keep repeats waiting for as long as this is not cancelled."""
        while True:
            await asyncio.sleep(RENEWED)
            longer = replace(job, lease_until=time.time() + LEASE, claims=job.claims + 1)
            with suppress(StateError):
                if not await self._store.replace_job(longer, seen=job):
                    return
                job = longer

    async def served(self, job: Job, answer: bytes) -> None:
        """Keep the answer for every repeat."""
        now = time.time()
        await self._store.finish_job(job.id, job.runner, now=now, expires=now + self._retention, result=answer)

    async def refused(self, job: Job) -> None:
        """Forget a request that was not served: its repeat is served anew."""
        now = time.time()
        await self._store.finish_job(job.id, job.runner, now=now, expires=now + FORGOTTEN, error="refused")
