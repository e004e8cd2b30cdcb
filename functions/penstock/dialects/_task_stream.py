"""What happens to a task, as events that a browser's ``EventSource`` reads, and comes back for when it is cut.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any
from urllib.parse import unquote_plus

from fastapi import Response

from penstock.core.jobs.following import Began, Event, Place, Said
from penstock.core.json import parse, to_json
from penstock.dialects._exchange import ClientLeft, EventStream, Exchange, RawHeaders, Receive, Scope, Send
from penstock.dialects._presented import presented_key
from penstock.dialects._task_answers import WORDS, outcome_of, status_of
from penstock.errors import InvalidRequest, NotFound, Restarting, StateError
from penstock.schema.job import PROCESSING, QUEUED, Job

QUEUED_ID, LAST_ID = "0-0", "end"
RETRY = b"retry: 1000\n\n"
"""Milliseconds after which a reader that was cut comes back."""
LONGEST = 840.0
"""Seconds after which a stream ends in order, and its reader comes back: API Gateway would cut it after 900."""
VOID = "Task was begun anew: the tokens before are void"


class TaskStream(Response):
    """Follows a task to its end, from its beginning or from the event that its reader has read last."""

    def __init__(self, job: Job, last_id: str | None) -> None:
        super().__init__()
        self._job = job
        self._fresh = last_id is None
        self._after = Place.read(last_id) if last_id not in (None, QUEUED_ID) else None
        if self._after is not None and self._after.run > job.claims:
            raise InvalidRequest(f"Last-Event-ID: {last_id} is of another task.", param="Last-Event-ID")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until the task has ended, or the reader shall come back."""
        exchange: Exchange = scope["penstock.exchange"]
        bounds = exchange.house.settings.document.request
        events = EventStream(exchange, bounds.ping_interval, lambda: shared_with(exchange))
        try:
            with exchange.watched():
                await self._follow(exchange, events)
        except ClientLeft:
            return
        except (StateError, Restarting, TimeoutError):
            await events.write(b": come back\n\n")  # as an EventSource does by itself whenever a stream ends
        except NotFound as error:
            await events.write(_frame(LAST_ID, _failed(error.message)))
        finally:
            events.close()
        await exchange.write(b"", more=False)

    async def _follow(self, exchange: Exchange, events: EventStream) -> None:
        first = {"status": QUEUED, "message": WORDS[QUEUED]}
        waiting = self._fresh and self._job.status == QUEUED
        await events.write(RETRY + (_frame(QUEUED_ID, first) if waiting else b""))
        following = exchange.house.follower.follow(self._job, self._after)
        async with asyncio.timeout(LONGEST), aclosing(following) as happening:
            async for event in happening:
                if told := _told(event):
                    await events.write(told)


def key_of(exchange: Exchange) -> str | None:
    """The key of a request for a stream: in a header, or as ``?api_key=``, for an ``EventSource`` sends no headers.

    The name counts as it is written alone: so it is struck out of log lines.
    """
    presented = presented_key(exchange)
    if presented is not None or not exchange.house.settings.document.tasks.key_in_url:
        return presented
    for part in bytes(exchange.scope["query_string"]).split(b"&"):
        name, _, value = part.partition(b"=")
        if name == b"api_key":
            return unquote_plus(value.decode("latin-1"))
    return None


def shared_with(exchange: Exchange) -> RawHeaders:
    """The headers by which a browser lets a page of another origin read the stream."""
    allowed = exchange.house.settings.document.tasks.allowed_origins
    if "*" in allowed:
        return [(b"access-control-allow-origin", b"*")]
    origin = exchange.header(b"origin")
    told = [(b"access-control-allow-origin", origin.encode("latin-1"))] if origin in allowed else []
    return [*told, (b"vary", b"origin")]


def _told(event: Event) -> bytes:
    """The events that tell of what has happened."""
    if isinstance(event, Began):
        word, message = ("restarted", VOID) if event.anew else (PROCESSING, WORDS[PROCESSING])
        return _frame(str(Place(event.run, 0)), {"status": word, "message": message})
    if isinstance(event, Said):
        said = ((number, _token(payload)) for number, payload in enumerate(event.payloads, event.first))
        return b"".join(
            _frame(str(Place(event.run, number)), {"status": PROCESSING, "message": WORDS[PROCESSING], "token": token})
            for number, token in said
            if token
        )
    return _frame(LAST_ID, outcome_of(event.job) | {"message": status_of(event.job)["message"]})


def _token(payload: bytes) -> str:
    """What a chunk adds to the text of the first choice."""
    try:
        choices = parse(payload).get("choices") or ()
        first: dict[str, Any] = next((choice for choice in choices if choice.get("index", 0) == 0), {})
        text = (first.get("delta") or {}).get("content", first.get("text"))
    except (ValueError, AttributeError, TypeError):
        return ""
    return text if isinstance(text, str) else ""


def _failed(message: str) -> dict[str, Any]:
    return {"status": "error", "message": message, "error_message": message, "error_type": NotFound.__name__}


def _frame(id: str, document: dict[str, Any]) -> bytes:
    return b"id: %s\ndata: %s\n\n" % (id.encode(), to_json(document))
