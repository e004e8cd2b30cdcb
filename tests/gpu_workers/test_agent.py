"""An agent says plainly what keeps it from speaking for its engine, once, and goes on trying."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.e2e.engine import Engine
from tests.e2e.server import wait_for
from tests.gpu_workers.launched import PATIENCE, WORKERS
from tests.ports import free_port


class Gateway:
    """A gateway that answers each request of a worker with ``status``, and notes its path."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.heard: list[str] = []
        self.generations: list[str] = []
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                told = json.loads(self.rfile.read(int(self.headers["content-length"])))
                gateway.heard.append(self.path)
                if self.path == "/v1/workers":
                    gateway.generations.append(told["generation"])
                self.send_response(gateway.status)
                if gateway.status == 301:
                    self.send_header("location", "/elsewhere")
                body = json.dumps({"error": {"message": "said the gateway"}}).encode()
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                gateway.heard.append(f"GET {self.path}")
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Gateway:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class Speaker:
    """An agent in a process of its own, and what it has said."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def said(self) -> list[str]:
        return [json.loads(line)["message"] for line in self._log.read_text(encoding="utf-8").splitlines()]

    def says(self, words: str) -> str:
        """The first message with these words, waited for."""
        return wait_for(
            lambda: next((message for message in self.said if words in message), ""), f"{words!r} to be said", PATIENCE
        )


@contextmanager
def speaking(folder: Path, gateway: str, engine: str, *words: str, **variables: str) -> Iterator[Speaker]:
    """An agent of this engine."""
    command = [sys.executable, str(WORKERS / "agent.py"), "--gateway", gateway, "--engine", engine, *words]
    log = folder / "agent.txt"
    with open(log, "wb") as err:
        process = subprocess.Popen(
            command, env={**os.environ, "PENSTOCK_FLEET_SECRET": "secret", **variables}, stderr=err
        )
    try:
        yield Speaker(process, log)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as engine:
        engine.ready.set()
        yield engine


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "does not accept the signature (is PENSTOCK_FLEET_SECRET the same there?): 401 said the gateway"),
        (403, "does not accept the signature"),
        (501, "has failed: 501 said the gateway"),
        (503, "has failed: 503 said the gateway"),
        (422, "refuses: 422 said the gateway"),
        (301, "refuses: 301"),
    ],
)
def test_a_refusal_is_told_once_and_tried_again_until_it_is_none(
    tmp_path: Path, engine: Engine, status: int, said: str
) -> None:
    with Gateway(status) as gateway, speaking(tmp_path, gateway.url, engine.url) as agent:
        agent.says(said)
        wait_for(lambda: len(gateway.heard) >= 3, "it to be tried again", PATIENCE)
        assert len(agent.said) == 1
        assert set(gateway.heard) == {"/v1/workers"}
        gateway.status = 200
        agent.says("registered")
        agent.says("well again")


def test_a_gateway_that_comes_later_is_waited_for(tmp_path: Path, engine: Engine) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with speaking(tmp_path, nobody, engine.url) as agent:
        assert nobody in agent.says("cannot be reached")
        assert agent.process.poll() is None


def test_a_key_that_the_engine_does_not_accept_is_told_by_its_variable(tmp_path: Path, engine: Engine) -> None:
    engine.key = "right"
    with Gateway(200) as gateway:
        with speaking(tmp_path, gateway.url, engine.url, PENSTOCK_ENGINE_API_KEY="wrong") as agent:
            agent.says("does not accept the key in PENSTOCK_ENGINE_API_KEY")
            assert not gateway.heard
        with speaking(tmp_path, gateway.url, engine.url, PENSTOCK_ENGINE_API_KEY="right") as agent:
            agent.says("registered")


def test_a_proxy_of_the_environment_stands_not_between_it_and_its_engine(tmp_path: Path, engine: Engine) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with Gateway(200) as gateway:
        there = gateway.url.removeprefix("http://")
        with speaking(tmp_path, gateway.url, engine.url, http_proxy=nobody, no_proxy=there) as agent:
            agent.says("registered")


def test_an_engine_that_comes_back_is_another_to_the_gateway(tmp_path: Path, engine: Engine) -> None:
    with Gateway(200) as gateway, speaking(tmp_path, gateway.url, engine.url, "--id", "gpu-1") as agent:
        agent.says("registered")
        engine.ready.clear()
        agent.says("drains")
        engine.ready.set()
        agent.says("well again")
        assert gateway.heard == ["/v1/workers", "/v1/workers/gpu-1/drain", "/v1/workers"]
        assert len(set(gateway.generations)) == 2


def test_it_leaves_at_once_for_an_agent_that_died(tmp_path: Path, engine: Engine) -> None:
    with Gateway(200) as gateway, speaking(tmp_path, gateway.url, engine.url, "--id", "gpu-1", "--leave") as agent:
        assert agent.process.wait(PATIENCE) == 0
        assert gateway.heard == ["/v1/workers/gpu-1/drain"]
