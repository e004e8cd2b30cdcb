"""One HTTP exchange in plain ASGI: what every hot route needs, and nothing that it does not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel

from penstock.core.sse import DONE, frame
from penstock.dialects._classified import classified_headers
from penstock.dialects._limits import limit_headers
from penstock.errors import PenstockError, RequestTooLarge, Restarting
from penstock.schema.request import Request

if TYPE_CHECKING:
    from penstock.house import House

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
RawHeaders = list[tuple[bytes, bytes]]

LOOK_AFTER = 0.02
JSON = (b"content-type", b"application/json")
EVENTS = "text/event-stream"
UNCHANGED: dict[int | str, dict[str, Any]] = {
    304: {"description": "Nothing has changed since the answer with this ETag"}
}


class ClientLeft(Exception):
    """The client closed the connection before it had its answer; there is nobody to tell."""


class Exchange:
    """One request and its response. ``started`` turns true when the response's head is on its way, ``ended`` when all
    of it is; ``size`` is that of the body, once it is read; ``request`` is what a dialect has made of it, if it has.
    ``config`` is the version of the configuration that it is served under.
    """

    __slots__ = ("_send", "config", "ended", "house", "receive", "request", "request_id", "scope", "size", "started")

    house: House

    def __init__(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        self.scope = scope
        self.receive = receive
        self._send = send
        self.request_id = request_id
        self.started = self.ended = False
        self.size = self.config = 0
        self.request: Request | None = None

    def header(self, name: bytes) -> str | None:
        """A request header by its lower-case name."""
        for key, value in self.scope["headers"]:
            if key == name:
                return bytes(value).decode("latin-1")
        return None

    def headers(self, name: bytes) -> list[str]:
        """Every value of a request header that may be repeated, in order."""
        return [bytes(value).decode("latin-1") for key, value in self.scope["headers"] if key == name]

    def query(self, name: str) -> str | None:
        """The first value of a parameter in the URL."""
        found = parse_qs(self.scope["query_string"].decode("latin-1")).get(name)
        return found[0] if found else None

    async def body(self) -> bytes:
        """The whole request body. Raises ``RequestTooLarge`` as soon as it is, ``ClientLeft`` if it never ends."""
        self.size = len(data := await self.read(self.receive))
        return data

    async def read(self, receive: Receive) -> bytes:
        """The whole body, from somebody who passes it on. Raises what ``body`` raises."""
        limit = self.house.settings.document.request.max_body_bytes
        declared = self.header(b"content-length")
        if declared is not None and declared.isdecimal() and int(declared) > limit:
            raise _too_large(limit)
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            part = message.get("body", b"")
            size += len(part)
            if size > limit:
                raise _too_large(limit)
            parts.append(part)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    async def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Send the response's head, with the request's id and the configuration's version in it."""
        self.started = True
        marks = (b"x-request-id", self.request_id.encode()), (b"x-penstock-config", b"%d" % self.config)
        told = [*headers, *marks]
        if self.request is not None:
            if self.request.standing:
                told += limit_headers(self.request.standing)
            if self.request.classified:
                told += classified_headers(self.request.classified)
        await self._send({"type": "http.response.start", "status": status, "headers": told})

    async def write(self, data: bytes, *, more: bool = True) -> None:
        """Send a piece of the response's body."""
        await self._send({"type": "http.response.body", "body": data, "more_body": more})
        self.ended = not more

    async def json(self, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """Send a whole JSON response."""
        await self.start(status, [JSON, (b"content-length", b"%d" % len(body)), *headers])
        await self.write(body, more=False)

    def watched(self) -> Watch:
        """A block that ends with ``ClientLeft`` when the client leaves."""
        return Watch(self.receive)


def _too_large(limit: int) -> RequestTooLarge:
    return RequestTooLarge(f"Request body exceeds the limit of {limit} bytes.")


def stopping() -> Restarting:
    """What the last clients of a server that is being stopped are told."""
    return Restarting("The gateway is being restarted; try again.", retry_after=1)


class Watch:
    """Cancels the block's task when ``http.disconnect`` arrives, and turns that cancellation into ``ClientLeft``.

    Any other cancellation is the server's, which is being stopped: it becomes an error that the client can be told.
    The first look comes after 20 ms: most blocks have ended by then, and need no task beside them.
    """

    __slots__ = ("_receive", "_task", "_timer", "_watcher", "gone")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._watcher: asyncio.Task[None] | None = None
        self.gone = False

    def __enter__(self) -> Watch:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._timer = asyncio.get_running_loop().call_later(LOOK_AFTER, self._look)
        return self

    def _look(self) -> None:
        self._watcher = asyncio.ensure_future(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self.gone:
            self._task.uncancel()
            raise ClientLeft from None
        if isinstance(error, asyncio.CancelledError):
            raise stopping() from None


class EventStream:
    """A server-sent-event response that says ``: ping`` when it has been silent for ``interval`` seconds.

    The head goes out with the first event or ping; until then an error may still be a plain response.
    """

    __slots__ = ("_exchange", "_headers", "_interval", "_pinging", "_spoke", "_timer")

    def __init__(self, exchange: Exchange, interval: float, headers: Callable[[], RawHeaders]) -> None:
        self._exchange = exchange
        self._interval = interval
        self._headers = headers
        loop = asyncio.get_running_loop()
        self._spoke = loop.time()
        self._timer = loop.call_later(interval, self._tick)
        self._pinging: asyncio.Task[None] | None = None

    async def send(self, payloads: Sequence[bytes]) -> None:
        """Send a batch of data payloads."""
        await self.write(frame(payloads))

    async def end(self, *last: bytes) -> None:
        """Send the last payloads (``[DONE]`` where none are given) and stop pinging; the response is not closed yet."""
        self.close()
        await self.write(frame(last or (DONE,)))

    def close(self) -> None:
        """Stop pinging; idempotent."""
        self._timer.cancel()
        if self._pinging is not None:
            self._pinging.cancel()

    def comment(self, line: str) -> None:
        """Say a line of plain text that no client takes for an answer, without waiting until it is sent."""
        if self._pinging is None or self._pinging.done():
            self._pinging = asyncio.ensure_future(self.write(b": %s\n\n" % line.encode()))

    async def write(self, data: bytes) -> None:
        """Send events as they are on the wire."""
        self._spoke = asyncio.get_running_loop().time()
        exchange = self._exchange
        if not exchange.started:
            await exchange.start(
                200,
                [
                    (b"content-type", b"text/event-stream; charset=utf-8"),
                    (b"cache-control", b"no-cache"),
                    (b"x-accel-buffering", b"no"),
                    *self._headers(),
                ],
            )
        await exchange.write(data)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        silent = loop.time() - self._spoke
        if silent >= self._interval * 0.999:
            self.comment("ping")
            silent = 0.0
        self._timer = loop.call_later(self._interval - silent, self._tick)


Handler = Callable[[Exchange], Awaitable[None]]
Teller = Callable[[str, Exchange], Awaitable[None]]
ErrorForm = Callable[[PenstockError], dict[str, Any]]


def told_in(*kinds: str) -> dict[str, Any]:
    """What the OpenAPI document says of an answer that comes in these kinds."""
    return {"content": {kind: {} for kind in kinds}}


def stem(path: str) -> str:
    """The first part of a path."""
    return path[1:].partition("/")[0]


class LazyRouter(APIRouter):
    """A router that makes its routes when FastAPI needs them: a function that starts for a hot route never does.

    ``form`` is how errors look below the first parts of its paths, ``stems``, where it is not OpenAI's.
    """

    def __init__(self, form: ErrorForm | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.form = form
        self.stems: set[str] = set()
        self._told: list[Callable[[], None]] = []

    def add_api_route(self, path: str, *args: Any, **options: Any) -> None:
        """Take a route, to be made later."""
        self.stems.add(stem(self.prefix + path))
        self._told.append(partial(super().add_api_route, path, *args, **options))

    def make(self, route: type[APIRoute] = APIRoute) -> None:
        """Make every route that is not made yet, as one of this kind."""
        self.route_class = route
        told, self._told = self._told, []
        for add in told:
            add()


class WireRouter(LazyRouter):
    """A router whose hot routes skip FastAPI: it documents them, ``app`` hands them their exchange as it comes."""

    def __init__(self, form: ErrorForm | None = None, **options: Any) -> None:
        super().__init__(form, **options)
        self.hot: dict[tuple[str, str], Handler] = {}
        self.tellers: list[tuple[str, str, Teller]] = []
        self.bodies: dict[str, type[BaseModel]] = {}

    def tell(self, path: str, teller: Teller, *, summary: str) -> None:
        """Serve ``GET path``, which has one parameter, with a teller in plain ASGI; its docstring documents it."""
        before, name, after = re.split(r"[{}]", path)
        self.tellers.append((self.prefix + before, after, teller))
        parameter = {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}

        async def documented() -> None:
            raise AssertionError(f"{path} is served before FastAPI sees it")

        self.add_api_route(
            path,
            documented,
            methods=["GET"],
            summary=summary,
            description=teller.__doc__,
            operation_id=teller.__name__,
            openapi_extra={"parameters": [parameter]},
            response_class=Response,
            responses={200: told_in(EVENTS)},
        )

    def wire(self, path: str, handler: Handler, *, body: type[BaseModel], summary: str, status: int = 200) -> None:
        """Serve ``POST path`` with a handler in plain ASGI, and document it with the model of its body."""
        self.hot["POST", path] = handler
        schema = {"schema": {"$ref": f"#/components/schemas/{body.__name__}"}}

        async def documented() -> None:
            raise AssertionError(f"{path} is served before FastAPI sees it")

        self.add_api_route(
            path,
            documented,
            methods=["POST"],
            status_code=status,
            summary=summary,
            operation_id=handler.__name__,
            openapi_extra={"requestBody": {"required": True, "content": {"application/json": schema}}},
            responses={200: told_in(EVENTS)} if "stream" in body.model_fields else {},
            response_model=None,
        )
        self.bodies[body.__name__] = body
