"""``/v1/jobs``: the answers of requests that were sent with ``Prefer: respond-async``."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Header, Response

from penstock.core.json import to_json
from penstock.dialects._exchange import UNCHANGED, Exchange, WireRouter
from penstock.dialects._following import follow_job
from penstock.dialects._guard import Here, Inference
from penstock.dialects._jobs import result_of, shown, told_before
from penstock.dialects._presented import presented_key
from penstock.schema.job import OPEN

router = WireRouter(prefix="/v1/jobs", tags=["jobs"])


@router.get(
    "/{job_id}",
    summary="The answer of a job, once it has one",
    response_model=None,
    responses={202: {"description": "The job is queued or processing"}, **UNCHANGED},
)
async def read_job(
    job_id: str, house: Here, caller: Inference, if_none_match: Annotated[str | None, Header()] = None
) -> Response:
    """202 while the job is queued or processing; then exactly the answer, or the error, that its request had.

    With ``If-None-Match`` the answer is 304 while nothing has changed. A job is private to the key that made it.
    """
    job = await house.jobs.find(job_id, caller)
    headers, known = told_before(job, if_none_match)
    if known:
        return Response(status_code=304, headers=headers)
    if job.status in OPEN:
        return Response(to_json(shown(job)), 202, headers, "application/json")
    return Response(result_of(job), 200, headers, "application/json")


async def stream_job(job_id: str, exchange: Exchange) -> None:
    """What a job says, as it says it, each event with its id.

    With ``Last-Event-ID``, or ``last_event_id`` in the URL, from the event after that one. Of a job that was not
    streamed, or whose events are not kept any more, the whole answer is one event.
    """
    caller = await exchange.house.keyring.authenticate(presented_key(exchange))
    await follow_job(exchange, await exchange.house.jobs.find(job_id, caller))


router.tell("/{job_id}/stream", stream_job, summary="The answer of a job as a stream, from any event on")


@router.delete("/{job_id}", summary="Cancel a job")
async def cancel_job(job_id: str, house: Here, caller: Inference) -> dict[str, Any]:
    """End a job without an answer; an engine that is at work for it is stopped. One that has ended stays as it is."""
    return shown(await house.jobs.cancel(job_id, caller))
