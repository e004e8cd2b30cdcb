"""Requests that are answered later: what a caller's ``Prefer`` says (RFC 7240), and what is told of a job."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, NamedTuple

from penstock.core.jobs import failure
from penstock.core.jobs.runner import Told
from penstock.core.jobs.submission import Repeated
from penstock.core.json import to_json
from penstock.dialects._exchange import Exchange
from penstock.dialects._presented import idempotency_key
from penstock.dialects._proxy_info import way_headers
from penstock.errors import JobCancelled, UpstreamTimeout
from penstock.schema.job import CANCELLED, FAILED, OPEN, Job
from penstock.schema.request import Request

ASYNC, RESUMABLE = "respond-async", "resumable"
LONGEST_WAIT = 25.0
"""Seconds that a Lambda function waits for a job at most: API Gateway gives up after 29."""
BUFFERED = "http_api"
"""The door of which that is so: the other one streams, for as long as a request may take."""
LONGEST_RETRY = 30
REPLAYED = (b"idempotent-replayed", b"true")
GOES_ON = (
    "The answer takes longer than a connection is held open. It goes on as a job: send the request again under its"
    " Idempotency-Key, or GET {}."
)


class Wish(NamedTuple):
    """A caller's wish to be answered later, unless it is done within ``wait`` seconds."""

    wait: float = 0.0


def preferences(prefer: Sequence[str]) -> dict[str, str]:
    """What the values of ``Prefer`` say."""
    said: dict[str, str] = {}
    for preference in ",".join(prefer).split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        said.setdefault(name.strip().lower(), value.strip().strip('"'))  # of one said twice the first counts
    return said


def wish_of(said: Mapping[str, str]) -> Wish | None:
    """The wish among preferences; ``None`` unless they say ``respond-async``."""
    if ASYNC not in said:
        return None
    wait = said.get("wait", "")
    return Wish(min(float(wait), 86_400.0) if wait.isascii() and wait.isdigit() else 0.0)


async def answer_later(exchange: Exchange, request: Request, wish: Wish) -> None:
    """Make a request a job, and answer 202 with its address; or as the job has ended, if it does within the wait."""
    house = exchange.house
    job = await house.jobs.submit(request, idempotency_key(exchange))
    longest = LONGEST_WAIT if house.settings.door else house.settings.document.request.timeout
    if wish.wait:
        with exchange.watched():
            job = await house.jobs.ended(job, min(wish.wait, longest))
    await house.gateway.settled(request)
    applied = f"{ASYNC}, wait={wish.wait:.0f}" if wish.wait else ASYNC
    headers = [(b"preference-applied", applied.encode()), (b"location", f"/v1/jobs/{job.id}".encode())]
    if job.status in OPEN:
        await exchange.json(202, to_json(shown(job)), [*headers, retry_after(job)])
    else:
        await exchange.json(200, result_of(job), headers)


async def answer_once(exchange: Exchange, request: Request, key: str, told: Told | None) -> None:
    """Make a request the job of its idempotency key, or find it, and answer as it ends; it outlives the connection.

    It is run here and now, or, in a function, by whoever gets its message.
    """
    house, headers = exchange.house, list[tuple[bytes, bytes]]()
    longest = house.settings.document.request.timeout
    with exchange.watched():
        if house.settings.door:
            job = await house.jobs.submit(request, key)
            await house.gateway.settled(request)
            longest = LONGEST_WAIT if house.settings.door == BUFFERED else longest
        else:
            try:
                job = await house.inplace.start_once(request, key, told=told)
            except Repeated as repeat:
                job, headers = repeat.job, [REPLAYED]
        path = f"/v1/jobs/{job.id}"
        job = await house.inplace.ended(job, longest)
    if job.status in OPEN:
        raise UpstreamTimeout(GOES_ON.format(path), retry_after=1)
    await exchange.json(200, result_of(job), [*headers, (b"location", path.encode()), *way_headers(request)])


def result_of(job: Job) -> bytes:
    """The answer of a job that has ended. Raises the error that it ended with."""
    if job.status == CANCELLED:
        raise JobCancelled("This job was cancelled.")
    if job.status == FAILED:
        raise failure.read(job.error)
    return job.result


def shown(job: Job) -> dict[str, Any]:
    """What is told of a job that has no answer to tell."""
    told = {"id": job.id, "object": "job", "status": job.status, "created_at": int(job.created_at)}
    return told if job.finished_at is None else told | {"finished_at": int(job.finished_at)}


def retry_after(job: Job) -> tuple[bytes, bytes]:
    """When to ask again: soon for a young job, ever later for one that takes long."""
    seconds = min(max(ceil((time.time() - job.created_at) / 4), 1), LONGEST_RETRY)
    return b"retry-after", b"%d" % seconds


def told_before(job: Job, if_none_match: str | None) -> tuple[dict[str, str], bool]:
    """The headers of what is told of a job, and whether its reader has been told already.

    The ``ETag`` changes when the job's state does.
    """
    name, value = retry_after(job)
    tag = f'"{job.status}"'
    headers = {"etag": tag} | ({name.decode(): value.decode()} if job.status in OPEN else {})
    known = {each.strip().removeprefix("W/") for each in (if_none_match or "").split(",")}
    return headers, tag in known or "*" in known
