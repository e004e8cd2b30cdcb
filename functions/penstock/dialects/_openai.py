"""What OpenAI's routes share: reading a request, answering it, and the form of an error."""

from __future__ import annotations

import asyncio
import math
import re
import time
from contextlib import aclosing
from typing import Any

from pydantic import BaseModel, ValidationError

from penstock.core.json import parse, to_json
from penstock.dialects._exchange import EventStream, Exchange, Handler, RawHeaders, Watch
from penstock.errors import InvalidRequest, NoDeploymentAvailable, PenstockError, UpstreamRefused
from penstock.schema.request import Request

_CONTROL = re.compile(r"[^\b\t\n\f\r -\U0010ffff]")


def error_document(error: PenstockError) -> dict[str, Any]:
    """The body that official OpenAI SDKs map to their own classes, ``detail`` and ``timestamp`` for older clients."""
    code = (error.upstream_code or error.code) if isinstance(error, UpstreamRefused) else error.code
    inner: dict[str, Any] = {"message": error.message, "type": error.type, "param": error.param, "code": code}
    if error.retry_after is not None:
        inner["retry_after"] = error.retry_after
    if isinstance(error, NoDeploymentAvailable) and error.attempts:
        inner["attempts"] = list(error.attempts)
    return {"error": inner, "detail": error.message, "timestamp": time.time()}


def error_headers(error: PenstockError) -> RawHeaders:
    """``Retry-After`` in whole seconds, rounded up (RFC 9110, 10.2.3)."""
    if error.retry_after is None:
        return []
    return [(b"retry-after", b"%d" % math.ceil(error.retry_after))]


def presented_key(exchange: Exchange) -> str | None:
    """The key of a request: ``Authorization: Bearer``, else the configured header (``X-API-Key``)."""
    name = exchange.house.key_header
    other = None
    for key, value in exchange.scope["headers"]:
        if key == b"authorization" and value[:7].lower() == b"bearer ":
            return bytes(value[7:]).decode("latin-1").strip()
        if key == name:
            other = bytes(value).decode("latin-1").strip()
    return other


def inference(endpoint: str, body: type[BaseModel], name: str) -> Handler:
    """The handler of one of OpenAI's inference routes."""

    async def handle(exchange: Exchange) -> None:
        house = exchange.house
        caller = await house.keyring.authenticate(presented_key(exchange))
        document = read_body(await exchange.body(), body)
        request = Request(
            id=exchange.request_id,
            endpoint=endpoint,
            model=document["model"],
            body=document,
            stream=document.get("stream") is True,
            caller=caller,
            deadline=asyncio.get_running_loop().time() + house.settings.document.request.timeout,
        )
        with exchange.watched() as watch:
            if request.stream:
                await _stream(exchange, request, watch)
            else:
                answer = await house.gateway.complete(request)
                await house.ledger.settled()
                await exchange.json(200, answer, told(request))

    handle.__name__ = name
    return handle


def told(request: Request) -> RawHeaders:
    """Headers that say who answered, after how many attempts, and which fields it does not know."""
    headers = [
        (b"x-penstock-deployment", request.deployment.encode("latin-1", "replace")),
        (b"x-penstock-attempts", b"%d" % (len(request.attempts) + 1)),
    ]
    if request.dropped:
        headers.append((b"x-penstock-dropped", ",".join(request.dropped).encode("ascii", "replace")))
    return headers


async def _stream(exchange: Exchange, request: Request, watch: Watch) -> None:
    house = exchange.house
    events = EventStream(exchange, house.settings.document.request.ping_interval, lambda: told(request))
    try:
        async with aclosing(house.gateway.stream(request)) as batches:
            async for batch in batches:
                await events.send(batch)
        await events.end()
    except PenstockError as error:
        if not exchange.started:
            raise
        await events.end(to_json(error_document(error)))
    except asyncio.CancelledError:
        if exchange.started and not watch.gone:  # the server is being stopped: no stream ends in silence
            await events.end(to_json(error_document(PenstockError("The gateway is being restarted; try again."))))
        raise
    finally:
        events.close()
    await house.ledger.settled()
    await exchange.write(b"", more=False)


def read_body(data: bytes, schema: type[BaseModel]) -> dict[str, Any]:
    """The document of a request body, checked once. Raises ``InvalidRequest`` naming the field at fault."""
    try:
        document = parse(data)
    except ValueError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from None
    if not isinstance(document, dict):
        raise InvalidRequest("The body must be a JSON object.")
    if b"\\u00" in data:
        _refuse_controls(document, ())
    try:
        schema.__pydantic_validator__.validate_python(document)
    except ValidationError as error:
        raise _first_mistake(error) from None
    return document


def _refuse_controls(value: Any, path: tuple[str, ...]) -> None:
    """Refuse control characters, all but those that JSON has a short escape for (docs/decisions/0005)."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _refuse_controls(key, path)
            _refuse_controls(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _refuse_controls(inner, (*path, str(number)))
    elif isinstance(value, str) and _CONTROL.search(value):
        raise _field_error(path, "holds a control character")


def _first_mistake(error: ValidationError) -> InvalidRequest:
    """The mistake that went deepest, since of a union's branches that is the one the caller meant."""
    mistakes = error.errors(include_url=False, include_input=False, include_context=False)
    mistake = max(mistakes, key=lambda m: (m["type"] == "missing" and len(m["loc"]) == 1, len(m["loc"])))
    path = tuple(str(key) for key in mistake["loc"] if not _is_branch(key))
    reason = "is required" if mistake["type"] == "missing" else _lower(mistake["msg"].removeprefix("Value error, "))
    return _field_error(path, reason)


def _is_branch(key: int | str) -> bool:
    """Whether a part of a location names a branch of a union instead of a field."""
    return isinstance(key, str) and (key in ("str", "int") or "[" in key)


def _field_error(path: tuple[str, ...], reason: str) -> InvalidRequest:
    field = ".".join(path).encode("utf-8", "replace").decode()[:200]
    return InvalidRequest(f"{field or 'The body'}: {reason}." if field else f"The body {reason}.", param=field or None)


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
