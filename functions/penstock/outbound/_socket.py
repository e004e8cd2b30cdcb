"""One connection: HTTP/1.1 as asyncio and httptools tell of it, to whoever waits for an answer."""

from __future__ import annotations

import asyncio

import httptools

from penstock.errors import UpstreamProtocolError, UpstreamTimeout, UpstreamUnavailable
from penstock.outbound._target import Origin
from penstock.schema.http_section import Wire

HIGH_WATER = 256 * 1024
MAX_HEAD = 256 * 1024


class Socket(asyncio.Protocol):
    """One connection, carrying one exchange at a time."""

    def __init__(self, origin: Origin, wire: Wire) -> None:
        self.origin = origin
        self.wire = wire
        self._heard_at = 0.0
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
        if self.wire.silence is not None:
            self._heard_at = asyncio.get_running_loop().time()
        if self._timer is None or self._timer.when() > self._next_check():
            self._arm()
        self.transport.write(data)

    def _next_check(self) -> float:
        """When the exchange may have taken too long, or been silent for too long."""
        silence = self.wire.silence
        return self._deadline if silence is None else min(self._deadline, self._heard_at + silence)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(self._next_check(), self._check_deadline)

    def _check_deadline(self) -> None:
        self._timer = None
        if self.complete or self.error is not None:
            return
        now = asyncio.get_running_loop().time()
        if self._paused:  # it is we who do not listen
            self._heard_at = now
        if now >= self._deadline:
            self.fail(UpstreamTimeout("did not answer in time", where=self.origin.title))
        elif now >= self._next_check():
            self.fail(UpstreamTimeout(f"said nothing for {self.wire.silence:g} s", where=self.origin.title))
        else:
            self._arm()

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.heard += len(data)
        if self.wire.silence is not None:
            self._heard_at = asyncio.get_running_loop().time()
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
