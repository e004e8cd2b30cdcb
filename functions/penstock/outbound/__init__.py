"""The one HTTP/1.1 client for everything that leaves the house: providers, and DynamoDB.

Written by hand over asyncio and httptools (docs/decisions/0002): a call closes its socket the instant it is cancelled,
a failure says in which phase it happened, and a warm call costs a third of what the general clients do.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from socket import gaierror

from penstock.errors import UpstreamBusy, UpstreamProtocolError, UpstreamTimeout, UpstreamUnavailable
from penstock.outbound._resolver import Resolver
from penstock.outbound._socket import Socket
from penstock.outbound._target import Headers, Origin, Target
from penstock.outbound.guard import Guard
from penstock.schema.http_section import EXPIRY, Wire

__all__ = ["Headers", "HttpClient", "Response", "Target"]

MAX_BODY = 256 * 1024 * 1024
Pool = tuple[bool, str, int, Wire]
GUARDED_LOOKUPS = 64  # at once, of names that strangers chose


class Response:
    """An answer whose body may still be coming. Close it, or read it to its end."""

    __slots__ = ("_client", "_headers", "_room", "_socket", "status")

    def __init__(self, client: HttpClient, socket: Socket) -> None:
        self._client = client
        self._socket: Socket | None = socket
        self._room: asyncio.Semaphore | None = None
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
            if self._room is not None:
                self._room.release()

    def hold(self, room: asyncio.Semaphore) -> None:
        """Have a place in a room until it is closed."""
        self._room = room


class HttpClient:
    """A pool of HTTP/1.1 connections for one event loop. Proxies and redirects are not followed.

    With a ``guard``, connections are made only to addresses that it admits: to the very ones that it was shown.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, guard: Guard | None = None) -> None:
        self._tls = tls
        self._guard = guard
        self._resolver = Resolver(GUARDED_LOOKUPS if guard else 0)
        self._idle: dict[Pool, list[Socket]] = {}
        self._rooms: dict[Pool, asyncio.Semaphore] = {}
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
        self,
        target: Target,
        body: bytes,
        *,
        request_id: str = "",
        trace: Headers = (),
        deadline: float,
        connect_timeout: float = 5.0,
    ) -> Response:
        """Send a request and wait for the head of its answer.

        ``deadline`` is on the event loop's clock and holds to the body's last byte; ``connect_timeout`` is in seconds.
        Raises ``UpstreamUnavailable`` (no connection), ``UpstreamTimeout`` and ``UpstreamProtocolError``.
        """
        named = f"\r\nx-request-id: {request_id}" if request_id else ""
        if trace:
            named += "".join(f"\r\n{name}: {value}" for name, value in trace)
        last = f"{named}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        data = b"".join((target.head, last, body))
        if target.wire.most is None:
            return await self._ask(target, data, deadline, connect_timeout)
        room = await self._enter(target, deadline, connect_timeout)
        try:
            response = await self._ask(target, data, deadline, connect_timeout)
        except BaseException:
            room.release()
            raise
        response.hold(room)
        return response

    async def _ask(self, target: Target, data: bytes, deadline: float, connect_timeout: float) -> Response:
        socket = self._take(target)
        if socket is not None:
            try:
                return await self._exchange(socket, data, deadline)
            except UpstreamUnavailable:
                pass  # closed while it lay idle, before one byte of an answer: a fresh connection is the cure
        left = deadline - asyncio.get_running_loop().time()
        socket = await self._connect(target, min(connect_timeout, left))
        return await self._exchange(socket, data, deadline)

    async def _enter(self, target: Target, deadline: float, connect_timeout: float) -> asyncio.Semaphore:
        """Wait for room among the requests that may be under way at once, as long as for a connection."""
        assert target.wire.most is not None
        room = self._rooms.setdefault(_pool(target), asyncio.Semaphore(target.wire.most))
        left = deadline - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(min(connect_timeout, left)):
                await room.acquire()
        except TimeoutError:
            many = f"{target.wire.most} requests are under way, as many as may be"
            raise UpstreamBusy(f"{target.origin.title}: {many}", provider=target.wire.provider) from None
        return room

    async def aclose(self) -> None:
        """Close every idle connection."""
        self._resolver.close()
        for sockets in self._idle.values():
            for socket in sockets:
                socket.transport.abort()
        self._idle.clear()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    async def _exchange(self, socket: Socket, data: bytes, deadline: float) -> Response:
        try:
            socket.send(data, deadline)
            await socket.head()
        except BaseException:
            socket.transport.abort()
            raise
        return Response(self, socket)

    async def _connect(self, target: Target, timeout: float) -> Socket:
        origin = target.origin
        if timeout <= 0:
            raise UpstreamTimeout("cannot be connected to: no time is left", where=origin.title)
        if origin.tls and self._tls is None:
            self._tls = ssl.create_default_context()
        try:
            async with asyncio.timeout(timeout):
                return await self._open(origin, target.wire)
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

    async def _open(self, origin: Origin, wire: Wire) -> Socket:
        """A connection to the first of the host's addresses that takes one."""
        loop = asyncio.get_running_loop()
        failure: OSError = gaierror(0, "it has no address")
        addresses = await self._resolver.addresses(origin.host)
        if self._guard is not None:
            self._guard.admit(addresses, origin.title)
        for address in addresses:
            try:
                _, protocol = await loop.create_connection(
                    lambda: Socket(origin, wire),
                    address,
                    origin.port,
                    ssl=self._tls if origin.tls else None,
                    server_hostname=origin.host if origin.tls else None,
                )
            except OSError as error:
                failure = error
            else:
                return protocol
        raise failure

    def _take(self, target: Target) -> Socket | None:
        idle = self._idle.get(_pool(target))
        oldest = asyncio.get_running_loop().time() - target.wire.expiry
        while idle:
            socket = idle.pop()
            if socket.idle_since > oldest and not socket.transport.is_closing():
                return socket
            socket.transport.abort()
        return None

    def _release(self, socket: Socket) -> None:
        idle = self._idle.setdefault(_pool(socket), [])
        full = socket.wire.idle is not None and len(idle) >= socket.wire.idle
        if full or not socket.reusable():
            socket.transport.abort()
            return
        loop = asyncio.get_running_loop()
        socket.idle_since = loop.time()
        idle.append(socket)
        if self._sweep is None:
            self._sweep = loop.call_later(min(EXPIRY, socket.wire.expiry), self._close_old)

    def _close_old(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for key, sockets in list(self._idle.items()):
            for socket in sockets:
                if now - socket.idle_since >= socket.wire.expiry:
                    socket.transport.abort()
            kept = [socket for socket in sockets if now - socket.idle_since < socket.wire.expiry]
            if kept:
                self._idle[key] = kept
            else:
                del self._idle[key]
        self._sweep = loop.call_later(EXPIRY, self._close_old) if self._idle else None


def _pool(place: Target | Socket) -> Pool:
    """Which connections may serve a request: those to the same server, under the same terms."""
    origin = place.origin
    return origin.tls, origin.host, origin.port, place.wire
