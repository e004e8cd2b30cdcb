"""The plain server: uvicorn, with an end to what a stranger may send before the application sees it."""

from __future__ import annotations

import os
import secrets
import signal
import sys
from contextlib import suppress

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.supervisors.multiprocess import Multiprocess

from penstock.core.json import to_json
from penstock.errors import InvalidRequest
from penstock.schema.config import Server
from penstock.schema.wire_error import error_document

MAX_HEAD = 64 * 1024
"""Bytes of a request's line and headers, give or take one read from the socket."""
MAX_FIELDS = 256
"""Headers and trailers of one request."""
LINGER = 2.0
"""Seconds for which a refused client may go on sending."""


class HeadTooLarge(InvalidRequest):
    """The request's line and headers are longer than any real ones."""

    status = 431


TOO_LARGE = HeadTooLarge(f"The headers are more than {MAX_FIELDS}, or longer than {MAX_HEAD} bytes.")


class Protocol(HttpToolsProtocol):
    """Uvicorn's protocol, but a request's head has an end, and a refusal has the form of our errors."""

    _head_bytes = 0
    _in_head = False
    _refused = False

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """Its head is whole."""
        self._in_head = False
        if len(self.headers) <= MAX_FIELDS:
            super().on_headers_complete()
        else:
            self._refuse(TOO_LARGE)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request, or of several."""
        if self._refused:
            return
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD or (self.headers is not None and len(self.headers) > MAX_FIELDS):
            self._refuse(TOO_LARGE)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP/1.1."""
        self._refuse(InvalidRequest("This is not a valid HTTP/1.1 request."))

    def _refuse(self, error: InvalidRequest) -> None:
        """Answer, and read on for a moment: closing at once would take the answer from a client that still sends."""
        if self._refused:
            return
        self._refused = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.close()
            return
        body = to_json(error_document(error))
        head = (
            b"content-type: application/json\r\ncontent-length: %d\r\nx-request-id: req_%s\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(STATUS_LINE[error.status] + head % (len(body), secrets.token_hex(12).encode()) + body)
        self.transport.write_eof()
        self.loop.call_later(LINGER, self.transport.close)


class Parent(Multiprocess):
    """Uvicorn's parent of several processes, which passes ``SIGHUP`` on: each loads its configuration anew."""

    def handle_hup(self) -> None:
        """Uvicorn would start other processes, which a bad configuration keeps from starting."""
        for child in self.processes:
            if child.pid is not None and child.process.is_alive():
                os.kill(child.pid, signal.SIGHUP)


def run(server: Server, workers: int) -> None:
    """Serve ``penstock.asgi:app`` with the settings of the environment until a signal ends it, in order."""
    config = uvicorn.Config(
        "penstock.asgi:app",
        host=server.host,
        port=server.port,
        workers=workers,
        loop="uvloop",
        http=Protocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=server.grace,
    )
    if workers > 1:
        Parent(config, sockets=[config.bind_socket()]).run()
        return
    served = uvicorn.Server(config)
    with suppress(KeyboardInterrupt):
        served.run()
    if not served.started:
        sys.exit(STARTUP_FAILURE)
