"""``/generate``, ``/status``, ``/result`` and ``/stream``: a prompt now, its text later (docs/tasks.md)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated, Any

from fastapi import Depends, Header, Response
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse
from pydantic import Field

from penstock.core.json import to_json
from penstock.dialects._address import caller_address
from penstock.dialects._body import read_body
from penstock.dialects._exchange import EVENTS, UNCHANGED, Exchange, WireRouter, told_in
from penstock.dialects._guard import Here, Inference
from penstock.dialects._jobs import retry_after, told_before
from penstock.dialects._presented import idempotency_key, presented_key
from penstock.dialects._task_answers import error_document, outcome_of, status_of
from penstock.dialects._task_stream import LAST_ID, TaskStream, key_of, shared_with
from penstock.errors import InvalidRequest, ModelNotFound, NoDeploymentAvailable
from penstock.house import House
from penstock.schema.checked import check
from penstock.schema.job import QUEUED, Job
from penstock.schema.key import Caller
from penstock.schema.request import CHAT, Request
from penstock.schema.wire import ChatBody, ModelName, Number, Wire

TOP_P = 0.9
CHATS = "chat"
ACCEPTED = "Your request is being processed. Use the task_id to check status."


class GenerateBody(Wire):
    """``POST /generate``. What else a chat request takes may be said as well."""

    prompt: Annotated[str, Field(min_length=1, examples=["Write a haiku about programming"])]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[Number, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    user_id: str | None = None
    model: ModelName | None = None


router = WireRouter(error_document, tags=["tasks"])


async def generate(exchange: Exchange) -> None:
    """Keep a prompt as a job, and answer at once."""
    house = exchange.house
    caller = await house.keyring.authenticate(presented_key(exchange))
    asked = await read_body(exchange, GenerateBody)
    body = _chat(asked, house, asked.get("model") or await _usual_model(house, caller))
    check(body, ChatBody)
    request = exchange.request = Request(
        id=exchange.request_id,
        endpoint=CHAT,
        model=body["model"],
        body=body,
        stream=True,
        caller=caller,
        deadline=asyncio.get_running_loop().time() + house.settings.document.request.timeout,
        address=caller_address(exchange),
        size=exchange.size,
    )
    job = await house.jobs.submit(request, idempotency_key(exchange))
    await house.gateway.settled(request)
    answer = {"status": job.status, "task_id": job.id, "message": ACCEPTED} if job.status == QUEUED else status_of(job)
    await exchange.json(202, to_json(answer), [(b"location", f"/result/{job.id}".encode()), retry_after(job)])


router.wire("/generate", generate, body=GenerateBody, status=202, summary="Submit a prompt, to be answered later")

IfNoneMatch = Annotated[str | None, Header()]


@router.get("/status/{task_id}", summary="How far a task is", response_model=None, responses=UNCHANGED)
async def read_status(task_id: str, house: Here, caller: Inference, if_none_match: IfNoneMatch = None) -> Response:
    """``queued``, ``processing``, ``completed`` or ``failed``; 304 with ``If-None-Match`` while it stays so."""
    job = await house.jobs.find(task_id, caller)
    return _answer(job, status_of(job), if_none_match)


@router.get(
    "/result/{task_id}", summary="The text of a task, once it has one", response_model=None, responses=UNCHANGED
)
async def read_result(task_id: str, house: Here, caller: Inference, if_none_match: IfNoneMatch = None) -> Response:
    """The text and how long it took; while the task is open, its status; ``error`` with the reason if it has failed."""
    job = await house.jobs.find(task_id, caller)
    return _answer(job, outcome_of(job), if_none_match)


async def reader(request: HttpRequest) -> Caller:
    """Who reads a stream."""
    exchange: Exchange = request.scope["penstock.exchange"]
    return await exchange.house.keyring.authenticate(key_of(exchange))


@router.get(
    "/stream/{task_id}",
    summary="What happens to a task, as it happens",
    response_class=Response,
    responses={200: told_in(EVENTS), 204: {"description": "There is nothing after the event that was read last"}},
)
async def stream(
    task_id: str,
    request: HttpRequest,
    house: Here,
    caller: Annotated[Caller, Depends(reader)],
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Server-sent events for a browser's ``EventSource``, which may show its key as ``?api_key=``.

    ``Last-Event-ID`` goes on after an event that was read; after the last one there is nothing, and 204 says so.
    """
    job = await house.jobs.find(task_id, caller)
    if last_event_id != LAST_ID:
        return TaskStream(job, last_event_id or None)
    ended = Response(status_code=204)
    ended.raw_headers += shared_with(request.scope["penstock.exchange"])
    return ended


def _answer(job: Job, told: dict[str, Any], if_none_match: str | None) -> Response:
    headers, known = told_before(job, if_none_match)
    return Response(status_code=304, headers=headers) if known else JSONResponse(told, headers=headers)


def _chat(asked: dict[str, Any], house: House, model: str) -> dict[str, Any]:
    """The chat that a prompt is. What the request names beyond the document travels on, as everywhere."""
    for field in ("messages", "template", "template_variables"):
        if field in asked:
            raise InvalidRequest(
                f"{field}: this route takes a 'prompt'; /v1/chat/completions takes {field}.", param=field
            )
    usual = house.settings.document.tasks
    said = {name: value for name, value in asked.items() if value is not None and name not in ("prompt", "user_id")}
    bound = {} if "max_completion_tokens" in said else {"max_tokens": usual.max_tokens}
    user = {"user": asked["user_id"]} if asked.get("user_id") is not None else {}
    return {
        "messages": [{"role": "user", "content": asked["prompt"]}],
        "temperature": usual.temperature,
        "top_p": TOP_P,
        **bound,
        **said,
        **user,
        "model": model,
    }


async def _usual_model(house: House, caller: Caller) -> str:
    """The model of tasks that name none: the configured one, else the first that can chat."""
    named = house.settings.document.tasks.model
    if named is None:
        able = (card.id for card in await house.registry.cards(caller) if CHATS in (card.capabilities or (CHATS,)))
        if (first := next(able, None)) is None:
            raise NoDeploymentAvailable(
                "There is no model here that could take a task: start an engine, or configure a provider."
            )
        return first
    if named in house.gateway.aliases:
        return named
    try:
        await house.registry.candidates(named, caller)
    except ModelNotFound:
        return named if ":" in named else await _tagged(house, caller, named)
    except NoDeploymentAvailable:
        pass  # it is known, and nobody who serves it is ready: it may wait
    return named


async def _tagged(house: House, caller: Caller, named: str) -> str:
    """A model as Ollama lists it, to whom no tag is ``latest``; the name as it stands if there is none."""
    tagged = f"{named}:latest"
    with suppress(ModelNotFound):
        await house.registry.candidates(tagged, caller)
        return tagged
    return named
