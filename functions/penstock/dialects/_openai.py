"""What OpenAI's routes share: reading a request, and answering it whole, as a stream, or as a job."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

from pydantic import BaseModel

from penstock.dialects._address import caller_address
from penstock.dialects._body import read_document
from penstock.dialects._cache_control import freshness
from penstock.dialects._ending import ending
from penstock.dialects._exchange import ClientLeft, ErrorForm, EventStream, Exchange, Handler, RawHeaders, Watch
from penstock.dialects._following import answer_resumably
from penstock.dialects._jobs import RESUMABLE, Wish, answer_later, answer_once, preferences, wish_of
from penstock.dialects._presented import idempotency_key, presented_key
from penstock.dialects._proxy_info import LastChunk, way_headers, with_info
from penstock.dialects._templates import fill_template
from penstock.errors import BudgetExceeded, NotCached, PenstockError
from penstock.schema.checked import check
from penstock.schema.key import Caller
from penstock.schema.request import CHAT, EMBEDDINGS, GENERATIVE, INFER, Request
from penstock.schema.trace import Trace
from penstock.schema.wire_error import error_document

Dress = Callable[[bytes], bytes]
KEPT = GENERATIVE | {EMBEDDINGS}
"""The endpoints whose answers a cache may keep."""
_WISHES = (b"prefer", b"idempotency-key")


def error_headers(error: PenstockError) -> RawHeaders:
    """``Retry-After`` in whole seconds, rounded up (RFC 9110, 10.2.3). Trying again helps nobody whose money is spent,
    or who wants what is not kept: ``x-should-retry`` tells OpenAI's SDKs.
    """
    if isinstance(error, BudgetExceeded | NotCached):
        return [(b"x-should-retry", b"false")]
    if error.retry_after is None:
        return []
    return [(b"retry-after", b"%d" % math.ceil(error.retry_after))]


def inference(endpoint: str, body: type[BaseModel], name: str, form: ErrorForm = error_document) -> Handler:
    """The handler of one of OpenAI's inference routes; ``form`` is how its streams tell of errors."""

    async def handle(exchange: Exchange) -> None:
        caller = await exchange.house.keyring.authenticate(presented_key(exchange))
        document = await _document(exchange, endpoint, body)
        await respond(exchange, request_of(exchange, caller, endpoint, document), form=form)

    handle.__name__ = name
    return handle


async def _document(exchange: Exchange, endpoint: str, body: type[BaseModel]) -> dict[str, Any]:
    """The body of a request, its template filled, checked."""
    if exchange.house.memory is not None:
        exchange.house.memory.check()  # first: a body takes more of it
    document = await read_document(exchange)
    if endpoint == CHAT and ("template" in document or "template_variables" in document):
        await fill_template(exchange, document)
    check(document, body)
    return document


def _trace(exchange: Exchange) -> Trace | None:
    """The request's place in the trace of its caller, where traces are kept."""
    tracer = exchange.house.gateway.tracer
    if tracer is None:
        return None
    return tracer.begin(exchange.header(b"traceparent"), exchange.header(b"tracestate"))


def request_of(exchange: Exchange, caller: Caller, endpoint: str, document: dict[str, Any]) -> Request:
    """The request that a document is, once it is checked."""
    timeout = exchange.house.settings.document.request.timeout
    request = exchange.request = Request(
        id=exchange.request_id,
        endpoint=endpoint,
        model=document["model"],
        body=document,
        stream=endpoint in GENERATIVE and document.get("stream") is True,
        caller=caller,
        deadline=asyncio.get_running_loop().time() + timeout,
        address=caller_address(exchange),
        size=exchange.size,
        trace=_trace(exchange),
    )
    return request


async def respond(
    exchange: Exchange, request: Request, *, form: ErrorForm = error_document, dress: Dress | None = None
) -> None:
    """Answer a request as its headers want it: whole, in the ``dress`` of its route, as a stream, or as a job."""
    house = exchange.house
    bounds = house.settings.document.request
    began = request.deadline - bounds.timeout
    said, key = _wishes(exchange)
    wish = wish_of(said)
    if wish is not None or (house.gateway.defers and not request.stream and await house.gateway.sleeps(request)):
        await answer_later(exchange, request, wish or Wish())
        return
    last = LastChunk(request, began) if bounds.proxy_info and request.stream and request.endpoint != INFER else None
    if request.stream and (key is not None or RESUMABLE in said):
        await answer_resumably(exchange, request, last, key)
        return

    def told(answer: bytes) -> bytes:
        answer = dress(answer) if dress is not None else answer
        return with_info(answer, request, began) if bounds.proxy_info else answer

    if key is not None:
        await answer_once(exchange, request, key, told)
        return
    if house.gateway.cache is not None and request.endpoint in KEPT:
        request.freshness = freshness(exchange)
    try:
        with exchange.watched() as watch:
            if request.stream:
                await _stream(exchange, request, watch, last, form)
            else:
                answer = await house.gateway.complete(request)
                await house.gateway.settled(request)
                await exchange.json(200, told(answer), way_headers(request))
    except ClientLeft:
        await house.gateway.settled(request)
        raise


def _wishes(exchange: Exchange) -> tuple[dict[str, str], str | None]:
    """What a request says of how it wants to be served, and its idempotency key: most say nothing, in one look."""
    for name, _ in exchange.scope["headers"]:
        if name in _WISHES:
            return preferences(exchange.headers(b"prefer")), idempotency_key(exchange)
    return {}, None


async def _stream(exchange: Exchange, request: Request, watch: Watch, last: LastChunk | None, form: ErrorForm) -> None:
    house = exchange.house
    events = EventStream(exchange, house.settings.document.request.ping_interval, lambda: way_headers(request))
    request.comment = events.comment
    async with ending(exchange, watch, events, form), aclosing(house.gateway.stream(request)) as batches:
        async for batch in batches:
            await events.send(last.see(batch) if last else batch)
    await house.gateway.settled(request)
    await exchange.write(b"", more=False)
