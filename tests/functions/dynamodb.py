"""DynamoDB, SQS and S3 on loopback (moto), behind a wire that notes which operation touches which of what is there."""

from __future__ import annotations

import http.client
import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from moto.server import ThreadedMotoServer

from tests.laws.objects.amazon import make_bucket
from tests.laws.queues.amazon import make_queue

MADE_AT_AN_ENDPOINT_OF_ONES_OWN = {"CreateTable", "DescribeTable", "UpdateTimeToLive"}


class Wire(ThreadingHTTPServer):
    """Forwards every call and keeps ``seen``: pairs of a table's kind and an IAM action."""

    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Endpoint)
        self.beyond = (host, port)
        self.seen: set[tuple[str, str]] = set()
        mine = secrets.token_hex(4)  # every moto of a process has the same state
        self.prefix = f"penstock-{mine}"
        there, here = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{self.server_address[1]}"
        self.state_url = f"dynamodb://{self.prefix}?region=eu-west-1&endpoint={here}"
        self.queue_url = make_queue(there, f"jobs-{mine}").replace(there, here)
        self.objects_url = make_bucket(there, f"objects-{mine}").replace(there, here)

    def note_object(self, method: str, path: str) -> None:
        """Keep what a call of S3 does, as IAM names it."""
        if method == "GET" and "list-type" in path:
            action = "ListBucket"
        elif method == "DELETE" and "uploadId" in path:
            action = "AbortMultipartUpload"
        else:
            action = {"GET": "GetObject", "DELETE": "DeleteObject"}.get(method, "PutObject")
        self.seen.add(("objects", f"s3:{action}"))

    def note(self, operation: str, payload: dict[str, Any]) -> None:
        """Keep what an operation does to which tables, as IAM names it."""
        if "QueueUrl" in payload:
            self.seen.add(("queue", f"sqs:{operation}"))
            return
        if operation in MADE_AT_AN_ENDPOINT_OF_ONES_OWN:
            return
        if operation == "TransactWriteItems":  # IAM asks for the right to each write in it
            for write in payload["TransactItems"]:
                for kind, one in write.items():
                    self.note(f"{kind}Item", one)
            return
        tables = list(payload.get("RequestItems", {})) or [payload["TableName"]]
        index = "/index" if "IndexName" in payload else ""  # to IAM, an index is a resource of its own
        self.seen |= {(table.removeprefix(f"{self.prefix}-") + index, f"dynamodb:{operation}") for table in tables}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A function that was killed leaves its connection; that is no failure of the wire."""


class _Endpoint(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Wire

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if target := self.headers["X-Amz-Target"]:
            self.server.note(target.rpartition(".")[2], json.loads(body))
        else:
            self.server.note_object(self.command, self.path)
        onward = http.client.HTTPConnection(*self.server.beyond, timeout=30)
        onward.request(self.command, self.path, body, dict(self.headers))
        answer = onward.getresponse()
        content = answer.read()
        onward.close()
        self.send_response(answer.status)
        for name in ("Content-Type", "Content-Range", "ETag"):
            if name in answer.headers:
                self.send_header(name, answer.headers[name])
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_DELETE = do_POST

    def log_message(self, *_: object) -> None:
        """Say nothing: a test's own assertions speak."""


@contextmanager
def serve() -> Iterator[Wire]:
    """Run an empty DynamoDB until the block ends."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    wire = Wire(*moto.get_host_and_port())
    thread = threading.Thread(target=wire.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield wire
    finally:
        wire.shutdown()
        wire.server_close()
        thread.join()
        moto.stop()
