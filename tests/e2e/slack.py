"""Somebody who takes messages in Slack's form, and says ``ok`` to each."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Slack(ThreadingHTTPServer):
    """Keeps what it is told."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.received: list[dict[str, Any]] = []

    @property
    def channel(self) -> dict[str, Any]:
        """The options of a webhook that leads here."""
        url = f"http://127.0.0.1:{self.server_address[1]}/services/T000/B000/XXXX"
        return {"url": url, "allow_networks": ["127.0.0.0/8"], "allow_http": True}

    def told(self, rule: str) -> list[str]:
        """Which events of a rule's it was told, in order."""
        return [said["event"] for said in self.received if said["alert"]["rule"] == rule]


class _Answer(BaseHTTPRequestHandler):
    server: Slack

    def do_POST(self) -> None:
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert isinstance(said["text"], str), "Slack shows nothing else"
        self.server.received.append(said)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Say nothing: a test's own assertions speak."""


@contextmanager
def slack() -> Iterator[Slack]:
    """Listen until the block ends."""
    receiver = Slack()
    thread = threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.shutdown()
        receiver.server_close()
        thread.join()
