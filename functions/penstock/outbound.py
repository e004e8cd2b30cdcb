"""The one HTTP/1.1 client for everything that leaves the house: providers, and DynamoDB.

Written by hand over asyncio and httptools (docs/decisions/0002): a call closes its socket the instant it is cancelled,
a failure says in which phase it happened, and a warm call costs a third of what the general clients do.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Sequence
from functools import lru_cache
from socket import gaierror
from urllib.parse import urlsplit

import httptools

from penstock.errors import UpstreamProtocolError, UpstreamTimeout, UpstreamUnavailable

Headers = Sequence[tuple[str, str]]

IDLE_SECONDS = 4.0  # SGLang and uvicorn close an idle connection after 5 s
HIGH_WATER = 256 * 1024
MAX_HEAD = 256 * 1024
MAX_BODY = 256 * 1024 * 1024


class _Origin:
    """Scheme, host and port of a server, and what a request line to it begins with."""

    __slots__ = ("host", "port", "title", "tls")

    def __init__(self, tls: bool, host: str, port: int) -> None:
        self.tls, self.host, self.port = tls, host, port
        self.title = f"{host}:{port}"


@lru_cache(maxsize=1024)
def _split(url: str) -> tuple[_Origin, str, str]:
    """Origin, request target and Host header of a URL; ``ValueError`` if it is not http or https."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is not an http:// or https:// address")
    tls = parts.scheme == "https"
    port = parts.port or (443 if tls else 80)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return _Origin(tls, parts.hostname, port), target, host if parts.port is None else f"{host}:{port}"


class Target:
    """A place to send requests to, with what is the same in all of them already written."""

    __slots__ = ("head", "origin")

    def __init__(self, method: str, url: str, headers: Headers) -> None:
        self.origin, path, host = _split(url)
        lines = [f"{method} {path} HTTP/1.1", f"host: {host}", *(f"{name}: {value}" for name, value in headers)]
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError("an outgoing header holds a line break")
        self.head = "\r\n".join(lines).encode("latin-1", "replace")


class _Socket(asyncio.Protocol):
    """One connection, carrying one exchange at a time."""

    def __init__(self, origin: _Origin) -> None:
        self.origin = origin
        self.idle_since = 0.0
        self.used = False
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._parser = httptools.HttpResponseParser(self)
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self._waiter: asyncio.Future[None] | None = None
        self._begin()

    def _begin(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False
        self.heard = 0
        self.error: Exception | None = None
        self._body: list[bytes] = []
        self._buffered = 0
        self._paused = False
        self._until_close = False
        self._headers_done = False
        self._keep_alive = False

    def send(self, data: bytes, deadline: float) -> None:
        """Start an exchange that must end by ``deadline``.

        The timer of an earlier exchange serves again: it only has to come in time, and then looks at the deadline.
        """
        if self.used:
            self._begin()
        self.used = True
        self._deadline = deadline
        if self._timer is None or self._timer.when() > deadline:
            self._arm()
        self.transport.write(data)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(self._deadline, self._check_deadline)

    def _check_deadline(self) -> None:
        self._timer = None
        if self.complete or self.error is not None:
            return
        if asyncio.get_running_loop().time() >= self._deadline:
            self.fail(UpstreamTimeout("did not answer in time", where=self.origin.title))
        else:
            self._arm()

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.heard += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.fail(UpstreamProtocolError("sent what is not HTTP/1.1", where=self.origin.title))
        if self.heard > MAX_HEAD and not self._headers_done:
            self.fail(UpstreamProtocolError(f"sent a head longer than {MAX_HEAD} bytes", where=self.origin.title))
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self.complete and self.error is None:
            if self._until_close and self._headers_done and exc is None:
                self.complete = True
            elif self.heard:
                self.error = UpstreamProtocolError("closed the connection in mid-answer", where=self.origin.title)
            else:
                self.error = UpstreamUnavailable("closed the connection without an answer", where=self.origin.title)
        self._wake()

    # what httptools calls

    def on_message_begin(self) -> None:
        if self.complete:  # nobody asked for it, so it must not become the answer to the next request
            raise UpstreamProtocolError("answered twice", where=self.origin.title)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status >= 200:
            self._headers_done = True
            names = [name for name, _ in self.headers]
            self._until_close = b"content-length" not in names and b"transfer-encoding" not in names

    def on_body(self, data: bytes) -> None:
        self._body.append(data)
        self._buffered += len(data)
        if self._buffered > HIGH_WATER and not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def on_message_complete(self) -> None:
        if self.status < 200:
            self.headers = []
        else:
            self.complete = True
            self._keep_alive = self._parser.should_keep_alive()  # the parser knows it only now

    # what the response calls

    async def head(self) -> None:
        """Wait for the status and headers."""
        while not self._headers_done:
            if self.error is not None:
                raise self.error
            await self._wait()

    async def chunk(self) -> bytes:
        """All the body that has come, waiting for some; ``b""`` at its end."""
        while not self._body:
            if self.error is not None:
                raise self.error
            if self.complete:
                return b""
            await self._wait()
        data = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        self._buffered = 0
        if self._paused:
            self._paused = False
            self.transport.resume_reading()
        return data

    def fail(self, error: Exception) -> None:
        """End the exchange with this error and close the socket."""
        if not self.complete and self.error is None:
            self.error = error
        self.transport.abort()
        self._wake()

    def reusable(self) -> bool:
        """Whether another exchange may follow on this connection."""
        return (
            self.complete
            and self.error is None
            and not self._until_close
            and not self.transport.is_closing()
            and self._keep_alive
        )

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


class Response:
    """An answer whose body may still be coming. Close it, or read it to its end."""

    __slots__ = ("_client", "_headers", "_socket", "status")

    def __init__(self, client: HttpClient, socket: _Socket) -> None:
        self._client = client
        self._socket: _Socket | None = socket
        self._headers = socket.headers
        self.status = socket.status

    @property
    def headers(self) -> dict[str, str]:
        """The headers by their lower-case names; the last of a repeated one."""
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self._headers}

    async def chunk(self) -> bytes:
        """The next bytes of the body as they came, ``b""`` at its end.

        Raises ``UpstreamTimeout`` at the deadline and ``UpstreamProtocolError`` if the body is cut short.
        """
        if self._socket is None:
            return b""
        data = await self._socket.chunk()
        if not data:
            self.close()
        return data

    async def read(self, limit: int = MAX_BODY) -> bytes:
        """The whole body; ``UpstreamProtocolError`` if it is longer than ``limit`` bytes."""
        parts: list[bytes] = []
        size = 0
        try:
            while data := await self.chunk():
                parts.append(data)
                size += len(data)
                if size > limit:
                    raise UpstreamProtocolError(f"the answer is longer than {limit} bytes")
        finally:
            self.close()
        return b"".join(parts)

    def close(self) -> None:
        """Give the connection back, or cut it if the answer has not ended: the server sees that at once."""
        socket, self._socket = self._socket, None
        if socket is not None:
            self._client._release(socket)


class HttpClient:
    """A pool of HTTP/1.1 connections for one event loop. Proxies and redirects are not followed."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._idle: dict[tuple[bool, str, int], list[_Socket]] = {}
        self._sweep: asyncio.TimerHandle | None = None

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Headers = (),
        body: bytes = b"",
        deadline: float,
        connect_timeout: float = 5.0,
    ) -> Response:
        """``send`` to a place that is written to once."""
        target = Target(method, url, headers)
        return await self.send(target, body, deadline=deadline, connect_timeout=connect_timeout)

    async def send(
        self, target: Target, body: bytes, *, request_id: str = "", deadline: float, connect_timeout: float = 5.0
    ) -> Response:
        """Send a request and wait for the head of its answer.

        ``deadline`` is on the event loop's clock and holds to the body's last byte; ``connect_timeout`` is in seconds.
        Raises ``UpstreamUnavailable`` (no connection), ``UpstreamTimeout`` and ``UpstreamProtocolError``.
        """
        named = f"\r\nx-request-id: {request_id}" if request_id else ""
        last = f"{named}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        data = b"".join((target.head, last, body))
        socket = self._take(target.origin)
        if socket is not None:
            try:
                return await self._exchange(socket, data, deadline)
            except UpstreamUnavailable:
                pass  # closed while it lay idle, before one byte of an answer: a fresh connection is the cure
        left = deadline - asyncio.get_running_loop().time()
        socket = await self._connect(target.origin, min(connect_timeout, left))
        return await self._exchange(socket, data, deadline)

    async def aclose(self) -> None:
        """Close every idle connection."""
        for sockets in self._idle.values():
            for socket in sockets:
                socket.transport.abort()
        self._idle.clear()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    async def _exchange(self, socket: _Socket, data: bytes, deadline: float) -> Response:
        try:
            socket.send(data, deadline)
            await socket.head()
        except BaseException:
            socket.transport.abort()
            raise
        return Response(self, socket)

    async def _connect(self, origin: _Origin, timeout: float) -> _Socket:
        if timeout <= 0:
            raise UpstreamTimeout("cannot be connected to: no time is left", where=origin.title)
        if origin.tls and self._tls is None:
            self._tls = ssl.create_default_context()
        try:
            async with asyncio.timeout(timeout):
                _, protocol = await asyncio.get_running_loop().create_connection(
                    lambda: _Socket(origin), origin.host, origin.port, ssl=self._tls if origin.tls else None
                )
        except TimeoutError:
            raise UpstreamTimeout(f"took no connection within {timeout:.3g} s", where=origin.title) from None
        except (gaierror, UnicodeError) as error:
            reason = error.strerror if isinstance(error, gaierror) else "it is no host name"
            raise UpstreamUnavailable(f"cannot be resolved: {reason}", where=origin.host) from None
        except ssl.SSLError as error:
            raise UpstreamUnavailable(
                f"speaks no TLS that we accept: {error.reason or error}", where=origin.title
            ) from None
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise UpstreamUnavailable(f"cannot be reached: {reason}", where=origin.title) from None
        return protocol

    def _take(self, origin: _Origin) -> _Socket | None:
        idle = self._idle.get((origin.tls, origin.host, origin.port))
        oldest = asyncio.get_running_loop().time() - IDLE_SECONDS
        while idle:
            socket = idle.pop()
            if socket.idle_since > oldest and not socket.transport.is_closing():
                return socket
            socket.transport.abort()
        return None

    def _release(self, socket: _Socket) -> None:
        if not socket.reusable():
            socket.transport.abort()
            return
        loop = asyncio.get_running_loop()
        socket.idle_since = loop.time()
        origin = socket.origin
        self._idle.setdefault((origin.tls, origin.host, origin.port), []).append(socket)
        if self._sweep is None:
            self._sweep = loop.call_later(IDLE_SECONDS, self._close_old)

    def _close_old(self) -> None:
        loop = asyncio.get_running_loop()
        oldest = loop.time() - IDLE_SECONDS
        for key, sockets in list(self._idle.items()):
            for socket in sockets:
                if socket.idle_since <= oldest:
                    socket.transport.abort()
            kept = [socket for socket in sockets if socket.idle_since > oldest]
            if kept:
                self._idle[key] = kept
            else:
                del self._idle[key]
        self._sweep = loop.call_later(IDLE_SECONDS, self._close_old) if self._idle else None
