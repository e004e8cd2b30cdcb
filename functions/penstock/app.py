"""The ASGI application: request ids, hot routes before FastAPI, and every error in its wire form."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from random import getrandbits
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from penstock import __version__, plugs
from penstock.core.json import to_json
from penstock.dialects._described import describe
from penstock.dialects._exchange import (
    ClientLeft,
    ErrorForm,
    Exchange,
    Handler,
    LazyRouter,
    Message,
    Receive,
    Scope,
    Send,
    Teller,
    WireRouter,
    stem,
)
from penstock.dialects._idempotency import once
from penstock.dialects._openai import error_headers
from penstock.dialects._presented import idempotency_key
from penstock.dialects._proxy_info import way_headers
from penstock.dialects._strict import StrictRoute
from penstock.errors import InvalidRequest, MethodNotAllowed, NotFound, PenstockError
from penstock.house import House
from penstock.schema.wire_error import error_document
from penstock.succession import Succession

log = logging.getLogger("penstock.app")

UNGUARDED = frozenset({"/health", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"})
"""The routes that never need a key."""

UNFORESEEN = "An internal error occurred; the log tells more."

HOT = (
    *("infinilm", "openai_chat", "openai_completions", "openai_embeddings", "openai_images", "penstock_infer"),
    *("penstock_classify", "penstock_jobs", "tasks"),
)
"""The dialects with routes in plain ASGI: a function that starts for one of those imports no others."""


class App:
    """Penstock over ASGI. The house is built at start-up, or with the first request where there is no start-up."""

    def __init__(self, build: Callable[[], House], bare: Callable[[], House] | None = None) -> None:
        self.succession = Succession(build, bare)
        self._opening = asyncio.Lock()
        self._opened = False
        self._hot: dict[tuple[str, str], Handler] = {}
        self._tellers: list[tuple[str, str, Teller]] = []
        self._forms: dict[str, ErrorForm] = {}
        self._routers: dict[str, APIRouter] = {}
        self._take(HOT)

    def _take(self, names: Iterable[str]) -> None:
        """Import dialects, and know their routes in plain ASGI and their errors' form."""
        for name in names:
            if name in self._routers:
                continue
            router = self._routers[name] = plugs.load("dialects", name).router
            if isinstance(router, WireRouter):
                self._hot |= router.hot
                self._tellers += router.tellers
            if isinstance(router, LazyRouter) and router.form is not None:
                self._forms |= dict.fromkeys(router.stems, router.form)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of the server's."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        exchange = Exchange(scope, receive, send, _request_id())
        handler = self._known(scope) or self._cold
        try:
            if not self._opened:
                await self.open()
            house = exchange.house = self.succession.house
            exchange.config = house.settings.version
            with house.guests:
                if house.settings.door:
                    self.succession.look()
                await handler(exchange)
        except ClientLeft:
            pass
        except PenstockError as error:
            await self._fail(exchange, error)
        except Exception:
            log.exception("a request failed in a way that nobody foresaw", extra={"request_id": exchange.request_id})
            await self._fail(exchange, PenstockError(UNFORESEEN))

    def _known(self, scope: Scope) -> Handler | None:
        """What serves a request in plain ASGI, if anything does."""
        return self._hot.get((scope["method"], scope["path"])) or self._teller(scope)

    def _teller(self, scope: Scope) -> Handler | None:
        """What tells the stream at a path, if there is one."""
        if scope["method"] == "GET":
            path = scope["path"]
            for before, after, teller in self._tellers:
                name = path.removeprefix(before).removesuffix(after)
                if path == before + name + after and name and "/" not in name:
                    return partial(teller, name)
        return None

    async def open(self) -> House:
        """Build and open the house, once. Raises ``SettingsError`` or ``StateError``."""
        async with self._opening:
            house = await self.succession.open()
            if not self._opened:
                self._opened = True
                if not house.settings.door:
                    self.succession.start()
                    self._prepare()
                _spare_collector()
            return house

    def _prepare(self) -> None:
        """Build now what a function builds when it is first needed, so that no request waits for it."""
        log.debug("%d routes", len(self.api.routes))
        for router in self._routers.values():
            if isinstance(router, WireRouter):
                for body in router.bodies.values():
                    body.model_rebuild()

    async def close(self) -> None:
        """Write what waits to be written."""
        self._opened = False
        await self.succession.close()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.open()
        except PenstockError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        with self._reloading():
            await receive()
        await self.close()
        await send({"type": "lifespan.shutdown.complete"})

    @contextmanager
    def _reloading(self) -> Iterator[None]:
        """Load the configuration anew at each ``SIGHUP``, where this is the loop that hears signals."""
        if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGHUP"):
            yield
            return
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self.succession.look_anew)
        yield
        loop.remove_signal_handler(signal.SIGHUP)

    async def _cold(self, exchange: Exchange) -> None:
        """Hand the exchange to FastAPI; the first one may be for a dialect that was not imported yet."""
        if "api" not in vars(self) and self.api and (handler := self._known(exchange.scope)):
            await handler(exchange)
            return

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                await exchange.start(message["status"], message.get("headers", ()))
            else:
                await exchange.write(message.get("body", b""), more=message.get("more_body", False))

        async def serve(receive: Receive, send: Send) -> None:
            await self.api(exchange.scope, receive, send)

        name = exchange.house.settings.document.app.name
        if self.api.title != name:
            self.api.title, self.api.openapi_schema = name, None

        exchange.scope["penstock.exchange"] = exchange
        exchange.scope["penstock.succession"] = self.succession
        key = idempotency_key(exchange) if exchange.scope["method"] == "POST" else None
        if key is None:
            await serve(exchange.receive, send)
        else:
            await once(exchange, key, serve, send)

    async def _fail(self, exchange: Exchange, error: PenstockError) -> None:
        if error.public:
            log.error("%s", error, extra={"request_id": exchange.request_id})
        if exchange.ended:
            return
        if exchange.started:
            raise error
        way = way_headers(exchange.request, answered=False) if exchange.request else []
        form = self._form(exchange.scope["path"])
        await exchange.json(error.status, to_json(form(error)), [*error_headers(error), *way])

    @cached_property
    def api(self) -> FastAPI:
        """FastAPI with every route. A Lambda function makes it when first needed, if ever: a tenth of its start."""
        api = FastAPI(
            title="Penstock",
            version=__version__,
            description="A serverless inference gateway that speaks OpenAI's API.",
            redirect_slashes=False,  # a redirect would name the scheme seen here, which a proxy may have changed
            exception_handlers={
                PenstockError: self._tell,
                HTTPException: self._tell_http,
                RequestValidationError: self._tell_invalid,
                Exception: self._tell_unforeseen,
            },
        )
        bodies: dict[str, Any] = {}
        self._take(plugs.names("dialects"))
        for _, router in sorted(self._routers.items()):
            if isinstance(router, LazyRouter):
                router.make(StrictRoute)
            if isinstance(router, WireRouter):
                bodies |= router.bodies
            api.include_router(router)
        generate = api.openapi
        api.openapi = lambda: describe(generate(), bodies, self._forms, UNGUARDED)  # type: ignore[method-assign]
        return api

    def _form(self, path: str) -> ErrorForm:
        """How errors look on this path."""
        return self._forms.get(stem(path), error_document)

    def _wire(self, request: Request, error: PenstockError) -> Response:
        form = self._form(request.url.path)
        response = Response(to_json(form(error)), error.status, media_type="application/json")
        response.raw_headers += error_headers(error)
        return response

    async def _tell(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, PenstockError)
        if error.public:
            log.error("%s", error)
        return self._wire(request, error)

    async def _tell_unforeseen(self, request: Request, error: Exception) -> Response:
        """Starlette sends this and raises the error again, which is logged once it comes out."""
        return self._wire(request, PenstockError(UNFORESEEN))

    async def _tell_http(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        told: PenstockError
        if error.status_code == 404:
            told = NotFound(f"There is nothing at {request.url.path}; /docs lists what there is.")
        elif error.status_code == 405:
            told = MethodNotAllowed(f"{request.url.path} does not take {request.method}.")
        else:
            told = PenstockError(str(error.detail))
            told.status = error.status_code
        response = self._wire(request, told)
        response.headers.update(error.headers or {})
        return response

    async def _tell_invalid(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        mistake = error.errors()[0]
        field = ".".join(map(str, mistake["loc"][1:]))
        return self._wire(request, InvalidRequest(f"{field or 'The body'}: {mistake['msg']}", param=field or None))


def _spare_collector() -> None:
    """Keep what start-up made out of every later collection, and collect less often: 5 % of all CPU (bench/)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


def _request_id() -> str:
    """An id that grows with time, so that the ledger is appended to: 48 bits of milliseconds, 48 random ones."""
    return f"req_{int(time.time() * 1000):012x}{getrandbits(48):012x}"
