"""The whole gateway on a real socket: ``App`` under uvicorn, with SQLite state, in the test's own event loop."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from penstock import settings
from penstock.app import App
from penstock.bootstrap import build
from penstock.house import House
from penstock.schema.outcome import Outcome

KEY = "test-key"
MODEL = "public-1"
PATIENCE = 15.0


@dataclass
class Reply:
    """What a client got: of a stream, the body cut into events, with ``events`` the documents inside."""

    status: int
    headers: httpx.Headers
    body: bytes = b""
    whole: bool = True

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error that a plain answer is."""
        found: dict[str, Any] = self.json["error"]
        return found

    @property
    def frames(self) -> list[bytes]:
        """The body cut at blank lines: events and comments."""
        *frames, rest = self.body.split(b"\n\n")
        assert rest == b"", f"the stream ends inside a frame: {rest!r}"
        return frames

    @property
    def payloads(self) -> list[bytes]:
        """The data of each event."""
        return [frame.removeprefix(b"data: ") for frame in self.frames if not frame.startswith(b":")]

    @property
    def events(self) -> list[Any]:
        """The documents of the events, without ``[DONE]``."""
        return [json.loads(payload) for payload in self.payloads if payload != b"[DONE]"]

    @property
    def text(self) -> str:
        """What the chunks say, put together."""
        choices = [choice for event in self.events for choice in event.get("choices", ())]
        return "".join(choice["delta"].get("content") or "" for choice in choices)

    def ended_well(self) -> bool:
        """Whether the stream ended as one whose answer is whole."""
        return self.whole and self.payloads[-1] == b"[DONE]" and not any(event.get("error") for event in self.events)

    def failed_with(self) -> dict[str, Any]:
        """The typed error event that the stream ends with, and without ``[DONE]`` after it."""
        assert self.whole, "the stream was cut instead of ended"
        assert b"[DONE]" not in self.payloads, "a failed stream says that it is done"
        error: dict[str, Any] = self.events[-1]["error"]
        assert error["message"]
        assert error["type"]
        assert error["code"]
        return error


class Gateway:
    """A gateway that listens, and a client of it; ``house`` is the first of its ``app``."""

    def __init__(self, app: App, house: House, url: str, client: httpx.AsyncClient) -> None:
        self.app = app
        self.house = house
        self.url = url
        self.client = client

    def request(self, body: dict[str, Any], path: str = "/v1/chat/completions") -> httpx.Request:
        """A request with the key, for the test's model unless ``body`` names another."""
        messages = CHAT if path == "/v1/chat/completions" else {}
        return self.client.build_request("POST", path, json={"model": MODEL, **messages, **body})

    async def plain(self, path: str = "/v1/chat/completions", **body: Any) -> Reply:
        """Ask for a whole answer."""
        response = await self.client.send(self.request(body, path))
        return Reply(response.status_code, response.headers, response.content)

    async def stream(self, path: str = "/v1/chat/completions", **body: Any) -> Reply:
        """Ask for a stream and read it to its end, however it ends."""
        async with self.open({"stream": True, **body}, path) as live:
            await live.rest()
        return live

    @asynccontextmanager
    async def open(self, body: dict[str, Any], path: str = "/v1/chat/completions") -> AsyncIterator[Live]:
        """Ask, and read as the test goes; the connection is closed when the block ends."""
        response = await self.client.send(self.request(body, path), stream=True)
        try:
            yield Live(response.status_code, response.headers, pieces=response.aiter_raw())
        finally:
            await response.aclose()

    async def outcomes(self, count: int = 1) -> list[Outcome]:
        """The ledger as the store holds it, oldest first, once it has ``count`` outcomes."""
        async with asyncio.timeout(PATIENCE):
            while True:
                await self.house.ledger.flush()
                found = await self.house.store.list_outcomes()
                if len(found) >= count:
                    return found[::-1]
                await asyncio.sleep(0.005)

    async def outcome(self) -> Outcome:
        """The one outcome of the one request."""
        (found,) = await self.outcomes()
        return found


@dataclass
class Live(Reply):
    """A reply that is still being read."""

    pieces: AsyncIterator[bytes] = field(kw_only=True)

    async def until(self, enough: Callable[[bytes], bool]) -> None:
        """Read until the body is as the test wants it."""
        async with asyncio.timeout(PATIENCE):
            while not enough(self.body):
                self.body += await anext(self.pieces)

    async def rest(self) -> None:
        """Read to the end; ``whole`` tells whether HTTP says that it is one."""
        try:
            async with asyncio.timeout(PATIENCE):
                async for piece in self.pieces:
                    self.body += piece
        except httpx.RemoteProtocolError:
            self.whole = False


NONE: Mapping[str, Any] = {}
UNLIMITED = {"enabled": False}
CHAT = {"messages": [{"role": "user", "content": "Hello"}]}


def provider(url: str, **fields: Any) -> dict[str, Any]:
    """A row of configuration for an upstream that serves the test's model."""
    models = [{"name": MODEL, "upstream": "engine-1"}]
    return {"name": "first", "type": "openai", "base_url": url, "models": models, **fields}


@asynccontextmanager
async def serve(
    folder: Path,
    *providers: dict[str, Any],
    credentials: Mapping[str, str] = NONE,
    limits: Mapping[str, Any] = UNLIMITED,
    sections: Mapping[str, Any] = NONE,
    **request: Any,
) -> AsyncIterator[Gateway]:
    """Run a gateway with these providers, ``limits``, other ``sections`` and this ``request`` section until the block
    ends.

    ``credentials`` are variables of its environment. Answers come without ``_proxy_info``, unless a test wants it.
    """
    document = {
        "auth": {"api_keys": [KEY]},
        "limits": limits,
        "logging": {"level": "WARNING", "format": "text"},
        "request": {"timeout": 20, "proxy_info": False, **request},
        "providers": providers,
        **sections,
    }
    config = folder / "config.yaml"
    config.write_text(json.dumps(document), encoding="utf-8")
    state = f"sqlite:///{folder}/state.db"
    environment = {"PENSTOCK_CONFIG": str(config), "PENSTOCK_STATE_URL": state, **credentials}
    handlers = logging.root.handlers[:]
    app = App(lambda: build(settings.load(environment)))
    try:
        async with _listening(app) as url:
            headers = {"authorization": f"Bearer {KEY}"}
            async with httpx.AsyncClient(base_url=url, headers=headers, timeout=PATIENCE, verify=False) as client:
                yield Gateway(app, await app.open(), url, client)
    finally:
        logging.root.handlers[:] = handlers


@asynccontextmanager
async def _listening(app: App) -> AsyncIterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http="httptools", ws="none", lifespan="on", access_log=False, log_config=None)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    try:
        await server.startup(sockets=[listener])
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        for listening in getattr(server, "servers", ()):
            listening.close()
        listener.close()
        await eventually(lambda: not server.server_state.tasks)
        await server.lifespan.shutdown()


def bounded(gateway: str, **request: Any) -> pytest.MarkDecorator:
    """Gives the fixture of this name (``gateway`` or ``pair``) this ``request`` section."""
    told = ", ".join(f"{name} {value}" for name, value in request.items())
    return pytest.mark.parametrize(gateway, [pytest.param(request, id=told)], indirect=True)


async def eventually(condition: Callable[[], bool | Awaitable[bool]], seconds: float = PATIENCE) -> None:
    """Wait until something is so, but not longer than some seconds."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.002)
