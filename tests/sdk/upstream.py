"""A provider on loopback that plays, for each model, the script of that name."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
BASE = {"id": "chatcmpl-1", "created": 1700000000, "model": "theirs"}


def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    """A chunk of a chat answer."""
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {**BASE, "object": "chat.completion.chunk", "choices": choices}


def answer(text: str) -> dict[str, Any]:
    """A whole chat answer."""
    choices = [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]
    return {**BASE, "object": "chat.completion", "choices": choices, "usage": USAGE}


class Call(BaseHTTPRequestHandler):
    """One request; a script answers it."""

    server: Upstream
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Play the script of the model that is asked for."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            self.server.seen.append(body)
            self.server.heads.append({name.lower(): value for name, value in self.headers.items()})
        SCRIPTS[body["model"]](self, body)

    def reply(self, document: Any, status: int = 200, **headers: str) -> None:
        """Answer whole."""
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def stream(self, *documents: Any, done: bool = True) -> None:
        """Answer as events; not done means that the connection breaks."""
        self.close_connection = True
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for document in documents:
            self.event(document)
        if done:
            self.wfile.write(b"data: [DONE]\n\n")

    def event(self, document: Any) -> None:
        """Send one event."""
        self.wfile.write(b"data: " + json.dumps(document).encode() + b"\n\n")

    def log_message(self, format: str, *args: object) -> None:
        """Be quiet."""


class Upstream(ThreadingHTTPServer):
    """The server; ``seen`` holds the bodies that came, in order, and ``heads`` their headers.

    Set ``seen_by_caller`` to let a script go on.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Call)
        self.seen: list[dict[str, Any]] = []
        self.heads: list[dict[str, str]] = []
        self.lock = threading.Lock()
        self.seen_by_caller = threading.Event()

    @property
    def url(self) -> str:
        """What ``base_url`` says."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


@contextmanager
def upstream() -> Iterator[Upstream]:
    """A running one."""
    server = Upstream()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _good(call: Call, body: dict[str, Any]) -> None:
    if body.get("stream"):
        call.stream(
            chunk(role="assistant", content="Hel"), chunk(content="lo"), chunk("stop"), {**chunk(), "usage": USAGE}
        )
    else:
        call.reply(answer("Hello"))


def _tools(call: Call, body: dict[str, Any]) -> None:
    def part(index: int, arguments: str, **rest: Any) -> dict[str, Any]:
        name = {"name": rest.pop("name")} if rest else {}
        return chunk(tool_calls=[{"index": index, **rest, "function": {**name, "arguments": arguments}}])

    call.stream(
        chunk(role="assistant", content=None),
        part(0, "", id="call_a", type="function", name="weather"),
        part(0, '{"city": '),
        part(0, '"Oslo"}'),
        part(1, "", id="call_b", type="function", name="time"),
        part(1, '{"zone": "CET"}'),
        chunk("tool_calls"),
    )


def _busy_once(call: Call, body: dict[str, Any]) -> None:
    with call.server.lock:
        times = sum(seen["model"] == body["model"] for seen in call.server.seen)
    if times == 1:
        call.reply({"error": {"message": "slow down"}}, 429, retry_after="1")
    else:
        _good(call, body)


def _breaks_off(call: Call, *last: Any) -> None:
    """Send one chunk, wait until somebody saw it, and break."""
    call.stream(chunk(role="assistant", content="Hel"), done=False)
    call.server.seen_by_caller.wait(10)
    call.server.seen_by_caller.clear()
    for document in last:
        call.event(document)


def _fails(status: int) -> Callable[[Call, dict[str, Any]], None]:
    document = {"error": {"message": f"no, {status}", "type": "invalid_request_error", "param": "n", "code": "bad_n"}}
    return lambda call, body: call.reply(document, status)


SCRIPTS: dict[str, Callable[[Call, dict[str, Any]], None]] = {
    "good": _good,
    "tools": _tools,
    "busy-once": _busy_once,
    "refuses": _fails(400),
    "breaks": _fails(500),
    "unprocessable": _fails(422),
    "no-stream": lambda call, body: call.stream(done=False),
    "cut": lambda call, body: _breaks_off(call),
    "error-frame": lambda call, body: _breaks_off(call, {"error": {"message": "out of memory", "code": 500}}),
}
