"""A worker beside a real gateway: its agent registers it, keeps it there, and takes it out without losing a call."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.server import KEY, ROOT, Server, chat, environment, wait_for
from tests.ports import free_port

pytestmark = pytest.mark.timeout(180)

SECRET = "a-secret-of-the-fleet"
CONFIG = "auth: {api_keys: [test-key]}\nlimits: {enabled: false}\nproviders: []\n"


class Engine:
    """What an agent and a gateway need of SGLang; each answer is written slowly while ``go`` is not set."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.ready = threading.Event()
        self.go = threading.Event()
        self.go.set()
        self.running = 0
        self.served = 0
        self._turn = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())

    def __enter__(self) -> Engine:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _documents(self) -> dict[str, Any]:
        load = {"num_running_reqs": self.running, "num_waiting_reqs": 0, "token_usage": 0.1, "max_running_requests": 8}
        return {
            "/ready": {},
            "/v1/loads": {"loads": [load]},
            "/v1/models": {"data": [{"id": "llama"}]},
            "/get_server_info": {"version": "0.5.23"},
            "/get_model_info": {"is_generation": True},
        }

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        engine = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                document = engine._documents().get(self.path)
                if self.path == "/ready" and not engine.ready.is_set():
                    document = None
                self.answer(200 if document is not None else 503, json.dumps(document or {}).encode())

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                with engine._turn:
                    engine.running += 1
                engine.go.wait(60)
                choice = {"index": 0, "delta": {"role": "assistant", "content": engine.url}, "finish_reason": "stop"}
                chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "llama"}
                body = f"data: {json.dumps({**chunk, 'choices': [choice]})}\n\ndata: [DONE]\n\n".encode()
                with engine._turn:
                    engine.running -= 1
                    engine.served += 1
                self.answer(200, body, "text/event-stream")

            def answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path, CONFIG, PENSTOCK_FLEET_SECRET=SECRET) as started:
        yield started


@contextmanager
def agent(server: Server, engine: Engine, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """The agent of an engine, as it is started beside a real one."""
    command = [sys.executable, str(ROOT / "gpu_workers" / "agent.py")]
    command += ["--gateway", server.url, "--engine", engine.url, "--id", name]
    with open(server.folder / f"{name}.txt", "wb") as log:
        process = subprocess.Popen(command, env=environment(PENSTOCK_FLEET_SECRET=SECRET), stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def ask(server: Server) -> tuple[int, str]:
    """The status of a chat request, and the engine that answered it."""
    with server.client(KEY) as client:
        answer = client.post("/v1/chat/completions", json=chat(model="llama"))
    return answer.status_code, answer.json()["choices"][0]["message"]["content"] if answer.status_code == 200 else ""


def states(server: Server) -> dict[str, str]:
    with server.client() as client:
        return {worker["id"]: worker["state"] for worker in client.get("/v1/workers").json()["data"]}


def test_a_worker_is_there_once_its_engine_is_ready(server: Server) -> None:
    with Engine() as engine, agent(server, engine, "gpu-1"):
        assert ask(server)[0] == 404
        engine.ready.set()
        wait_for(lambda: states(server) == {"gpu-1": "ready"}, "the worker to register")
        assert wait_for(lambda: answer if (answer := ask(server))[0] == 200 else None, "it to be used") == (
            200,
            engine.url,
        )
        with server.client() as client:
            assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["llama"]


def test_draining_loses_no_call(server: Server) -> None:
    with Engine() as one, Engine() as two, ThreadPoolExecutor(8) as pool:
        for engine in (one, two):
            engine.ready.set()
        with agent(server, one, "gpu-1") as leaving, agent(server, two, "gpu-2"):
            wait_for(lambda: states(server) == {"gpu-1": "ready", "gpu-2": "ready"}, "both to register")
            wait_for(lambda: ask(server)[0] == 200, "them to be used")
            one.go.clear()
            two.go.clear()
            begun = [pool.submit(ask, server) for _ in range(8)]
            wait_for(lambda: one.running + two.running == 8, "the engines to be at work")
            leaving.terminate()
            wait_for(lambda: states(server)["gpu-1"] == "draining", "the worker to drain")
            assert leaving.poll() is None, "the agent waits for what its engine has begun"
            one.go.set()
            two.go.set()
            assert [future.result()[0] for future in begun] == [200] * 8
            assert leaving.wait(30) == 0
            served = one.served
            assert [ask(server) for _ in range(5)] == [(200, two.url)] * 5
            assert one.served == served


def test_a_killed_worker_is_gone_when_its_lease_is_over_and_its_calls_move_on(server: Server) -> None:
    with Engine() as two:
        two.ready.set()
        with Engine() as one:
            one.ready.set()
            with agent(server, one, "gpu-1"), agent(server, two, "gpu-2"):
                wait_for(lambda: states(server) == {"gpu-1": "ready", "gpu-2": "ready"}, "both to register")
                wait_for(lambda: ask(server)[0] == 200, "them to be used")
        with agent(server, two, "gpu-2"):
            assert {ask(server) for _ in range(10)} == {(200, two.url)}, "a dead engine's calls go to the living"
            wait_for(lambda: states(server)["gpu-1"] == "gone", "the lease to be over", 60)
