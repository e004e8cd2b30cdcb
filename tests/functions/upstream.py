"""A provider on loopback whose streamed answer is let out one step at a time by the test."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = "pipe-1"
PATIENCE = 30.0


def event(text: str) -> bytes:
    """One SSE event of a streamed chat completion."""
    choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}
    chunk = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


class Upstream(ThreadingHTTPServer):
    """Streams ``first`` at once, then waits for ``let_go`` and either ends well or is cut."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Endpoint)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"
        self.cut = False
        self.let_go = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """A gateway that was killed leaves its connection; that is no failure of the provider."""


class _Endpoint(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Upstream

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if request.get("stream"):
            self._stream()
        else:
            self._answer()

    def _answer(self) -> None:
        choice = {"index": 0, "message": {"role": "assistant", "content": "whole"}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        document = {"id": "c-1", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice]}
        body = json.dumps({**document, "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._chunk(event("first"))
        assert self.server.let_go.wait(PATIENCE)
        if self.server.cut:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        finish = event("last").replace(b'"finish_reason": null', b'"finish_reason": "stop"')
        self._chunk(finish + b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def log_message(self, *_: object) -> None:
        """Say nothing: a test's own assertions speak."""


@contextmanager
def serve() -> Iterator[Upstream]:
    """Run the provider until the block ends."""
    upstream = Upstream()
    thread = threading.Thread(target=upstream.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield upstream
    finally:
        upstream.let_go.set()
        upstream.shutdown()
        upstream.server_close()
        thread.join()
