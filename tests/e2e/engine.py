"""A double of SGLang: what an agent and a gateway need of it."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.ports import free_port


class Engine:
    """It answers chats with its own address, and none while ``go`` is not set; it begins to listen as a context."""

    def __init__(self, port: int = 0) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.ready = threading.Event()
        self.go = threading.Event()
        self.go.set()
        self.key = ""
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
            "/v1/loads": {"version": "0.5.23", "loads": [load]},
            "/v1/models": {"data": [{"id": "llama"}]},
            "/model_info": {"is_generation": True},
        }

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        engine = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                document = engine._documents().get(self.path)
                if self.path == "/ready" and not engine.ready.is_set():
                    document = None
                status = 200 if document is not None else 503
                if self.path == "/v1/loads" and engine.key not in self.headers.get("authorization", ""):
                    status = 401
                self.answer(status, json.dumps(document or {}).encode())

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
