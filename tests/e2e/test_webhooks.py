"""Webhooks and the death of the server that tells them: killed with -9 in the middle, it is succeeded by another."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from tests.e2e.server import ROOT, SIMULATED, Server, chat, wait_for
from tests.e2e.test_jobs import LATER

CONFIG = f"{SIMULATED}webhooks: {{allow_networks: [127.0.0.0/8], allow_http: true}}\n"


class Receiver(ThreadingHTTPServer):
    """Keeps what it is sent; its first message it leaves without an answer."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.over = threading.Event()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}/hook"


class _Answer(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((dict(self.headers), body))
        if len(self.server.received) == 1:
            self.server.over.wait()
            return
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing: a test's own assertions speak."""


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.over.set()
        receiver.shutdown()
        receiver.server_close()
        thread.join()


def delivered(client: httpx.Client, webhook: str) -> list[dict[str, Any]]:
    """What has arrived, by the webhook's log."""
    log = client.get(f"/v1/webhooks/{webhook}/deliveries").json()["data"]
    return [delivery for delivery in log if delivery["status"] == "delivered"]


@pytest.mark.timeout(300)
def test_what_a_server_was_telling_when_it_was_killed_is_told_by_the_next(tmp_path: Path) -> None:
    with receiving() as receiver:
        with Server(tmp_path, CONFIG) as first:
            with first.client() as client:
                webhook = client.post("/v1/webhooks", json={"url": receiver.url}).json()
                headers = {"prefer": "respond-async"}
                job = client.post("/v1/chat/completions", json=chat("a canary sings"), headers=headers).json()["id"]
            wait_for(lambda: len(receiver.received) == 1, "the first try")
            first.process.send_signal(signal.SIGKILL)
            first.process.wait()
        later = tmp_path / "later"
        later.mkdir()
        (later / "sitecustomize.py").write_text(LATER, encoding="utf-8")
        path = f"{later}{os.pathsep}{ROOT / 'functions'}"
        with Server(tmp_path, CONFIG, PYTHONPATH=path) as second, second.client() as client:
            log = wait_for(lambda: delivered(client, webhook["id"]), "the delivery")
    assert len(log) == 1
    assert len({headers["webhook-id"] for headers, _ in receiver.received}) == 1
    for headers, body in receiver.received:
        assert Webhook(webhook["secret"]).verify(body, headers)["data"]["id"] == job
    for kept in (second.err, second.out):
        assert webhook["secret"].removeprefix("whsec_") not in kept
        assert "canary" not in kept
