"""Streams that can be resumed, on OpenAI's wire: each event has an id, and whoever shows one goes on after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

from penstock.core.jobs.following import Began, Place, Said
from penstock.core.jobs.submission import Repeated
from penstock.core.json import parse, to_json
from penstock.core.sse import numbered
from penstock.dialects._ending import ending
from penstock.dialects._exchange import EventStream, Exchange, RawHeaders, Watch
from penstock.dialects._jobs import REPLAYED, RESUMABLE, result_of
from penstock.dialects._proxy_info import LastChunk, way_headers
from penstock.errors import GenerationRestarted, InvalidRequest, Restarting, StreamLost
from penstock.schema.job import Job
from penstock.schema.request import CHAT, GENERATIVE, Request
from penstock.schema.wire_error import error_document

LONGEST = 840.0
"""Seconds for which a Lambda function tells a stream: it is ended itself after 900."""
VOID = (
    "Who wrote this answer is gone, and another one begins it anew: what was read so far is void. Read the stream"
    " again, without Last-Event-ID."
)


async def answer_resumably(exchange: Exchange, request: Request, last: LastChunk | None, key: str | None) -> None:
    """Make a stream a job, and tell it as it comes: run here and now, or, in a function, by whoever gets its message.

    A client that leaves once the job is accepted leaves it running. One that comes again with its idempotency ``key``
    is told the same stream from its beginning.
    """
    with exchange.watched() as watch:
        job, headers = await _accepted(exchange, request, last, key)
        events = EventStream(exchange, _ping(exchange), lambda: [*headers, *way_headers(request)])
        request.comment = events.comment
        await _tell(exchange, watch, events, job, None)


async def _accepted(
    exchange: Exchange, request: Request, last: LastChunk | None, key: str | None
) -> tuple[Job, RawHeaders]:
    """The job that a stream is, and what the answer's head says of it."""
    house, see = exchange.house, last.see if last else None
    headers = [] if key else [(b"preference-applied", RESUMABLE.encode())]
    if house.settings.door:
        job = await house.jobs.submit(request, key)
        await house.gateway.settled(request)
    elif key is None:
        job = await house.inplace.start(request, see)
    else:
        try:
            job = await house.inplace.start_once(request, key, see)
        except Repeated as repeat:
            job, headers = repeat.job, [REPLAYED]
    return job, [*headers, (b"location", f"/v1/jobs/{job.id}".encode())]


async def follow_job(exchange: Exchange, job: Job) -> None:
    """Tell a job's stream from its beginning, or from where ``Last-Event-ID`` says, to its end."""
    if job.endpoint not in GENERATIVE:
        raise InvalidRequest("What is no text has no stream: GET the job itself.")
    after = place_of(exchange)
    with exchange.watched() as watch:
        await _tell(exchange, watch, EventStream(exchange, _ping(exchange), list), job, after)


def place_of(exchange: Exchange) -> Place | None:
    """Where a reader wants to go on: ``Last-Event-ID``, or ``last_event_id`` in the URL of one who can set no header.

    Raises ``InvalidRequest`` if that is nowhere.
    """
    given = exchange.header(b"last-event-id") or exchange.query("last_event_id")
    return Place.read(given) if given else None


async def _tell(exchange: Exchange, watch: Watch, events: EventStream, job: Job, after: Place | None) -> None:
    read_some = after is not None and after.number > 0
    story = exchange.house.follower.follow(job, after)
    longest = LONGEST if exchange.house.settings.door else None
    async with ending(exchange, watch, events, error_document), within(longest), aclosing(story):
        async for event in story:
            if isinstance(event, Said):
                read_some = True
                await events.write(numbered(event.run, event.first, event.payloads))
            elif isinstance(event, Began):
                if event.anew and read_some:
                    raise GenerationRestarted(VOID)
            else:
                answer = result_of(event.job)
                if not event.whole and read_some:
                    raise StreamLost("What follows this event is not kept: GET the job itself for its whole answer.")
                if not event.whole:
                    await events.send([_as_chunk(answer, job.endpoint)])
    await exchange.write(b"", more=False)


@asynccontextmanager
async def within(seconds: float | None) -> AsyncIterator[None]:
    """A block that ends before the time of a function is over, with a word on how to go on."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise Restarting("A stream is told for 14 minutes at most: read on after the last event's id.") from None


def _ping(exchange: Exchange) -> float:
    return exchange.house.settings.document.request.ping_interval


def _as_chunk(answer: bytes, endpoint: str) -> bytes:
    """A whole answer as the one chunk of a stream."""
    document: dict[str, Any] = parse(answer)
    document.pop("usage", None)
    if endpoint == CHAT:
        document["object"] = "chat.completion.chunk"
        for choice in document["choices"]:
            delta = choice["delta"] = choice.pop("message")
            for number, call in enumerate(delta.get("tool_calls") or ()):
                call["index"] = number
    return to_json(document)
