"""Ways in which a store that was there goes away, and comes back."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import suppress
from dataclasses import replace
from typing import Protocol
from urllib.parse import urlsplit

from tests.laws.stores.places import Place


class Outage(Protocol):
    """One way to be away. ``asked`` counts what reached the store's place while it was; None where nobody can tell."""

    place: Place
    asked: int | None

    async def leave(self) -> None:
        """From now on the store does not answer."""

    async def come_back(self) -> None:
        """From now on it does again."""

    async def end(self) -> None:
        """Let go of everything."""


class Locked:
    """Another program holds the file's write lock."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.asked = None
        self._other: sqlite3.Connection | None = None

    async def leave(self) -> None:
        self._other = sqlite3.connect(self.place.url.removeprefix("sqlite:///"), isolation_level=None)
        self._other.execute("BEGIN IMMEDIATE")

    async def come_back(self) -> None:
        await self.end()

    async def end(self) -> None:
        other, self._other = self._other, None
        if other is not None:
            other.close()


class Cut:
    """A relay before the server: away, it accepts connections and says nothing, or, if ``gone``, refuses them."""

    def __init__(self, place: Place, *, gone: bool) -> None:
        address, _, endpoint = place.url.partition("endpoint=")
        endpoint, _, options = endpoint.partition("&")
        self._behind = urlsplit(endpoint)
        self._form = f"{address}endpoint=http://127.0.0.1:{{}}&{options}"
        self.place = place
        self.asked = 0
        self._gone = gone
        self._away = False
        self._server: asyncio.Server | None = None
        self._port = 0
        self._open: set[asyncio.StreamWriter] = set()

    async def begin(self) -> None:
        """Listen, before anything is connected."""
        await self._listen()
        self.place = replace(self.place, url=self._form.format(self._port))

    async def leave(self) -> None:
        self._away = True
        await self._cut()
        if self._gone:
            await self._stop()

    async def come_back(self) -> None:
        self._away = False
        await self._cut()
        if self._gone:
            await self._listen()

    async def end(self) -> None:
        await self._cut()
        await self._stop()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
            await server.wait_closed()

    async def _cut(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            if self._away:
                self.asked += 1
                await reader.read()
                return
            behind, beyond = await asyncio.open_connection(self._behind.hostname, self._behind.port)
            self._open.add(beyond)
            await asyncio.gather(_pump(reader, beyond), _pump(behind, writer))
            self._open.discard(beyond)
        finally:
            self._open.discard(writer)
            writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes one way until an end comes or the connection is cut."""
    with suppress(ConnectionError):
        while part := await reader.read(65536):
            writer.write(part)
            await writer.drain()
    writer.close()
