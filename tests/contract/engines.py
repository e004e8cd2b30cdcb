"""An engine on loopback that says what it was asked: OpenAI's routes, and some of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
SOUND = b"RIFF\x00\xff sound"


class _Call(BaseHTTPRequestHandler):
    server: Engine
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Its models; it has nothing else to show."""
        if self.path == "/v1/models":
            listed = [{"id": name, "object": "model", "created": 1} for name in self.server.models]
            self._reply({"object": "list", "data": listed})
        else:
            self._reply({"error": {"message": "no such page"}}, 404)

    def do_POST(self) -> None:
        """Answer, or fail as it was told to."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.seen.append((self.path, body))
        if self.server.hold is not None:
            self.server.hold.wait(60)
        if self.server.status != 200:
            said = f": {json.dumps(body)}" if self.server.echoes else ""
            self._reply({"error": {"message": f"out of order{said}"}}, self.server.status)
        elif self.path == "/generate":
            self._reply({"notes": ["c", "e", "g"], "of": body.get("prompt")})
        elif self.path == "/sound":
            self._send(200, "audio/wav", SOUND)
        elif self.path == "/events":
            events = b"".join(b"data: %b\n\n" % json.dumps({"note": note}).encode() for note in "ceg")
            self._send(200, "text/event-stream", events)
        elif self.path == "/v1/images/generations":
            self._reply({"created": 1, "data": [{"b64_json": "AAAA"}] * (body.get("n") or 1)})
        elif self.path == "/v1/embeddings":
            self._reply({"object": "list", "model": body["model"], "data": [{"index": 0, "embedding": [0.5]}]})
        else:
            self._text(body)

    def _text(self, body: dict[str, Any]) -> None:
        """A chat or a text, whole or as a stream."""
        base = {"id": "1", "created": 1, "model": body["model"]}
        chat, named = "messages" in body, self.server.name
        if not body.get("stream"):
            said = {"message": {"role": "assistant", "content": f"from {named}"}} if chat else {"text": f"from {named}"}
            whole = {**base, "choices": [{"index": 0, **said, "finish_reason": "stop"}], "usage": USAGE}
            self._reply({**whole, "object": "chat.completion" if chat else "text_completion"})
            return
        pieces = [{"delta": {"content": text}} if chat else {"text": text} for text in ("from ", named)]
        chunks = [{**base, "choices": [{"index": 0, **piece, "finish_reason": None}]} for piece in pieces]
        end = {"index": 0, **({"delta": {}} if chat else {"text": ""}), "finish_reason": "stop"}
        chunks += [{**base, "choices": [end]}, {**base, "choices": [], "usage": USAGE}]
        events = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
        self._send(200, "text/event-stream", events.encode())

    def _reply(self, document: Any, status: int = 200) -> None:
        self._send(status, "application/json", json.dumps(document).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.send_header("connection", "close")  # one that has ended answers nobody any more
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Be quiet."""


class Engine(ThreadingHTTPServer):
    """The server; ``seen`` are the paths and bodies that came. It answers with ``status``, once ``hold`` is set;
    one that ``echoes`` tells in its errors what it was asked."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, name: str, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Call)
        self.name = name
        self.models: list[str] = []
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self.status = 200
        self.echoes = False
        self.hold: threading.Event | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def said(self, path: str) -> list[dict[str, Any]]:
        """The bodies that came to a path."""
        return [body for at, body in self.seen if at == path]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has left is nobody's fault."""


@contextmanager
def engine(name: str = "engine", port: int = 0) -> Iterator[Engine]:
    """A running one."""
    server = Engine(name, port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        if server.hold is not None:
            server.hold.set()
        server.shutdown()
        thread.join()
        server.server_close()
