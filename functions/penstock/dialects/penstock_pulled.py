"""``/v1/workers/{id}/jobs``: workers whose engines nobody can call ask for jobs, and post what became of them."""

from __future__ import annotations

import zlib
from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from penstock.core.jobs.pulled import Handed
from penstock.core.jobs.runner import LEASE, RENEWED
from penstock.core.ports import Posted
from penstock.dialects._exchange import LazyRouter
from penstock.dialects._fleet import Name, Signed
from penstock.dialects._guard import Here
from penstock.errors import InvalidRequest, NotFound, RequestTooLarge

router = LazyRouter(prefix="/v1/workers/{worker_id}/jobs", tags=["workers"], dependencies=[Signed])

LONGEST_WAIT = 20.0
"""Seconds that a worker may wait for jobs in one request."""
PAUSE = 2.0
"""Seconds after which it asks again where it cannot wait: a function that waits is paid for."""

Receipt = Annotated[str, Field(max_length=300)]
Held = Annotated[dict[Annotated[str, Field(min_length=1, max_length=100)], Receipt], Field(max_length=1000)]


class Claim(BaseModel):
    """How many jobs a worker has room for, and how long it waits for the first, in seconds."""

    model_config = ConfigDict(extra="forbid", strict=True)

    generation: Name
    most: Annotated[int, Field(ge=1, le=100)] = 1
    wait: Annotated[float, Field(ge=0, le=LONGEST_WAIT)] = 0.0


class Holding(BaseModel):
    """Jobs that a worker has, each with its receipt."""

    model_config = ConfigDict(extra="forbid", strict=True)

    jobs: Held


class Result(BaseModel):
    """What an engine has answered: its status (0: nothing came), the content type and the text of its body.

    ``trouble`` says what ended the answer too early. ``sent`` is the body that the engine was sent, of a job that
    was cancelled.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    receipt: Receipt
    status: Annotated[int, Field(ge=0, le=599)] = 0
    content_type: Annotated[str, Field(max_length=200)] = ""
    body: str = ""
    trouble: Literal["", "unavailable", "timeout", "stopped"] = ""
    sent: dict[str, Any] | None = None


@router.post("/claim", summary="Take jobs for an engine that nobody can call")
async def claim_jobs(worker_id: str, wanted: Claim, house: Here) -> dict[str, Any]:
    """The jobs that a worker shall run now, each with the body to send to its engine, and how long it may take.

    ``again`` is in how many seconds to ask again. 404 tells the worker to register anew.
    """
    worker = await house.fleet.find(worker_id)
    if worker is None or worker.generation != wanted.generation:
        raise NotFound(f"There is no worker {worker_id!r} of this generation: register it.", param="worker_id")
    if not worker.pulls:
        raise InvalidRequest("This worker was registered with a url, and is called: register it with 'pull': true.")
    wait = 0.0 if house.settings.door else wanted.wait
    jobs = await house.pulled.claim(worker, most=wanted.most, wait=wait)
    return {
        "object": "list",
        "data": [_shown(job) for job in jobs],
        "state": worker.state,
        "lease": LEASE,
        "renew": RENEWED,
        "again": PAUSE if house.settings.door and not jobs else 0.0,
    }


@router.post("/renew", summary="Keep jobs for another while")
async def renew_jobs(worker_id: str, held: Holding, house: Here) -> dict[str, Any]:
    """Each job's state: ``held``; ``cancelled`` or ``lost``, and then its engine is to be stopped."""
    return {"jobs": await house.pulled.renew(worker_id, held.jobs)}


@router.post("/release", summary="Give jobs back")
async def release_jobs(worker_id: str, held: Holding, house: Here) -> dict[str, Any]:
    """What a worker does with jobs that it will not end: another takes them."""
    await house.pulled.release(worker_id, held.jobs)
    return {}


@router.post("/{job_id}/result", summary="Post what became of a job")
async def post_result(worker_id: str, job_id: str, request: Request, house: Here) -> dict[str, Any]:
    """Ends the job as if the engine had been called, once: the state that it is in then, ``late`` if this was too late,
    or ``unknown`` if the job was cancelled and ``sent`` is missing. The body may be compressed (``gzip``).
    """
    limit = house.settings.document.request.max_body_bytes
    body = await request.body()
    if request.headers.get("content-encoding") == "gzip":
        body = _unpacked(body, limit)
    try:
        result = Result.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidRequest(f"{where or 'body'}: {first['msg']}", param=where or None) from None
    posted = Posted(result.status, result.content_type, result.body.encode(), result.trouble)
    return {"status": await house.pulled.answer(worker_id, job_id, result.receipt, posted, result.sent)}


def _unpacked(body: bytes, limit: int) -> bytes:
    unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        document = unpacker.decompress(body, limit + 1)
    except zlib.error:
        raise InvalidRequest("The body is not compressed with gzip, as its content-encoding says.") from None
    if len(document) > limit:
        raise RequestTooLarge(f"The body has more than {limit} bytes once it is unpacked.")
    return document


def _shown(job: Handed) -> dict[str, Any]:
    return {
        "id": job.id,
        "receipt": job.receipt,
        "path": f"/v1/{job.endpoint}",
        "body": job.body,
        "seconds": job.seconds,
        "bound": {"field": job.bound, "prompt": job.prompt} if job.bound else None,
    }
