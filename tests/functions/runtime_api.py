"""A double of Lambda's Runtime API and Extensions API on loopback: it hands out events and keeps what comes back."""

from __future__ import annotations

import json
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATIENCE = 30.0
FUNCTION_ARN = "arn:aws:lambda:eu-west-1:123456789012:function:penstock"


class Invocation:
    """One event given to a function, and its answer as it comes: chunks with the monotonic second of their arrival."""

    def __init__(self, event: Any, explain: Callable[[], str]) -> None:
        self.id = str(uuid.uuid4())
        self.event = json.dumps(event).encode()
        self.headers = Message()
        self.chunks: list[tuple[float, bytes]] = []
        self.trailers: dict[str, str] = {}
        self.error: dict[str, Any] | None = None
        self.complete = False
        self._changed = threading.Condition()
        self._explain = explain

    @property
    def received(self) -> bytes:
        return b"".join(chunk for _, chunk in self.chunks)

    @property
    def answer(self) -> Any:
        """The JSON document with which a buffered function answered."""
        assert self.error is None, self.error
        return json.loads(self.received)

    @property
    def prelude(self) -> dict[str, Any]:
        """What a streaming function says before its body: status code and headers."""
        document: dict[str, Any] = json.loads(self.received.partition(b"\0" * 8)[0])
        return document

    @property
    def body(self) -> bytes:
        """What a streaming function sent after the prelude."""
        return self.received.partition(b"\0" * 8)[2]

    @property
    def fault(self) -> str:
        """The error trailers of a stream that broke, else nothing. Release 0.9.1 of the adapter writes the trailers'
        lines as the last chunk; a later one may send them behind it, where HTTP wants them.
        """
        last = self.chunks[-1][1].decode("utf-8", "replace") if self.chunks else ""
        written = last if last.startswith("Lambda-Runtime-Function-Error-") else ""
        return written or "".join(f"{name}: {value}\r\n" for name, value in self.trailers.items())

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Block until the condition on this invocation holds; it is asked again at each arrival."""
        with self._changed:
            happened = self._changed.wait_for(condition, PATIENCE)
        assert happened, f"{what} did not come; received: {self.received!r}; the function wrote:\n{self._explain()}"

    def wait(self) -> Invocation:
        """Block until the function has answered, well or badly."""
        self.wait_until(lambda: self.complete, "the end of the answer")
        return self

    def add(self, chunk: bytes) -> None:
        with self._changed:
            self.chunks.append((time.monotonic(), chunk))
            self._changed.notify_all()

    def finish(self, trailers: dict[str, str], error: dict[str, Any] | None = None) -> None:
        with self._changed:
            self.trailers, self.error, self.complete = trailers, error, True
            self._changed.notify_all()


class RuntimeApi(ThreadingHTTPServer):
    """Listens on a free port; ``address`` is what AWS_LAMBDA_RUNTIME_API holds."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Endpoint)
        self.address = f"127.0.0.1:{self.server_address[1]}"
        self.waiting: queue.Queue[Invocation | None] = queue.Queue()
        self.given: dict[str, Invocation] = {}
        self.init_error: dict[str, Any] | None = None
        self.failed = threading.Event()
        self.asked = threading.Event()
        self.closed = threading.Event()

    def invoke(self, event: Any, explain: Callable[[], str] = str) -> Invocation:
        """Queue an event for the function; ``explain`` gives what to show where no answer comes."""
        invocation = Invocation(event, explain)
        self.waiting.put(invocation)
        return invocation

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A runtime that was killed leaves its connection; that is no failure of the double."""


class _Endpoint(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RuntimeApi

    def do_GET(self) -> None:
        if self.path == "/2020-01-01/extension/event/next":
            self.server.closed.wait()
            return self._reply(200, {"eventType": "SHUTDOWN"})
        self.server.asked.set()
        invocation = self.server.waiting.get()
        if invocation is None:
            self.close_connection = True
            return None
        self.server.given[invocation.id] = invocation
        deadline = str(int((time.time() + 900) * 1000))
        return self._reply(
            200,
            invocation.event,
            {
                "Lambda-Runtime-Aws-Request-Id": invocation.id,
                "Lambda-Runtime-Deadline-Ms": deadline,
                "Lambda-Runtime-Invoked-Function-Arn": FUNCTION_ARN,
                "Lambda-Runtime-Trace-Id": "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0",
            },
        )

    def do_POST(self) -> None:
        if self.path == "/2020-01-01/extension/register":
            self._take(lambda _: None)
            return self._reply(200, {}, {"Lambda-Extension-Identifier": str(uuid.uuid4())})
        if self.path == "/2018-06-01/runtime/init/error":
            self.server.init_error = json.loads(self._whole())
            self.server.failed.set()
            return self._reply(202, {})
        _, identifier, kind = self.path.rsplit("/", 2)
        invocation = self.server.given[identifier]
        if kind == "error":
            invocation.finish({}, json.loads(self._whole()))
        else:
            invocation.headers = self.headers
            invocation.finish(self._take(invocation.add))
        return self._reply(202, {})

    def _whole(self) -> bytes:
        parts: list[bytes] = []
        self._take(parts.append)
        return b"".join(parts)

    def _take(self, sink: Callable[[bytes], None]) -> dict[str, str]:
        """Read the request's body as it arrives; answers its trailers."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            sink(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            return {}
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            sink(self.rfile.read(size))
            self.rfile.readline()
        trailers: dict[str, str] = {}
        while line := self.rfile.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            trailers[name] = value.strip()
        return trailers

    def _reply(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing: a test's own assertions speak."""


@contextmanager
def serve() -> Iterator[RuntimeApi]:
    """Run the double until the block ends."""
    api = RuntimeApi()
    thread = threading.Thread(target=api.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        api.closed.set()
        api.waiting.put(None)
        api.shutdown()
        api.server_close()
        thread.join()
