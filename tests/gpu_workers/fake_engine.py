"""Takes SGLang's flags and answers as an engine does, in a tenth of a second and without weights.

FAKE_ENGINE holds its faults, separated by commas: `die` ends with status 7 before it is ready, `never` is never ready,
`stubborn` ignores SIGTERM, `mute` refuses every generation, `leave-child` leaves a child behind that holds its output.
FAKE_ENGINE_LOG is where it notes each request, a line of JSON each.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FAULTS = os.environ.get("FAKE_ENGINE", "").split(",")


class Handler(BaseHTTPRequestHandler):
    """One connection; a call whose message is `sing` sings until the engine, or GET /finish, is told to end."""

    key = ""
    admin = ""
    name = ""
    ending = threading.Event()
    finished = threading.Event()
    singing = 0

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        if self.path == "/finish":
            self.finished.set()
        told: dict[str, Any] = {"data": [{"id": self.name}], "loads": [{"num_running_reqs": Handler.singing}]}
        self._answer(503 if "never" in FAULTS or self.ending.is_set() else 200, told)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        presented = self.headers.get("authorization", "").removeprefix("Bearer ")
        self._note({"path": self.path, "body": body, "key": presented})
        wanted = self.admin if "memory_occupation" in self.path and self.admin else self.key
        if wanted and presented != wanted:
            self._answer(401, {"error": "Unauthorized"})
        elif "mute" in FAULTS:
            self._answer(500, {"message": "no kernel image is available"})
        elif "sing" in json.dumps(body):
            self._sing()
        else:
            self._answer(200, {"object": "chat.completion", "choices": [{"message": {"content": "hello"}}]})

    def _sing(self) -> None:
        self.send_response(200)
        self.end_headers()
        Handler.singing += 1
        self.wfile.write(b"data: la\n\n")
        while not self.ending.wait(0.02) and not self.finished.is_set():
            pass
        Handler.singing -= 1
        self.wfile.write(b"data: [DONE]\n\n")

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        told = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def _note(self, what: dict[str, Any]) -> None:
        if path := os.environ.get("FAKE_ENGINE_LOG"):
            with open(path, "a", encoding="utf-8") as log:
                log.write(json.dumps(what) + "\n")


class Engine(ThreadingHTTPServer):
    """Waits for its open calls before it ends, as SGLang does."""

    daemon_threads = False
    block_on_close = True


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--served-model-name")
    given, _ = parser.parse_known_args()
    Handler.name = given.served_model_name
    keys = json.loads(given.config.read_text(encoding="utf-8")) if given.config else {}
    Handler.key, Handler.admin = keys.get("api-key", ""), keys.get("admin-api-key", "")
    print(f"server_args={{'api_key': {Handler.key!r}, 'admin_api_key': {Handler.admin!r}}}", flush=True)
    if "leave-child" in FAULTS:
        subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    if "die" in FAULTS:
        print("torch.OutOfMemoryError: CUDA out of memory.", flush=True)
        sys.exit(7)
    server = Engine((given.host, given.port), Handler)
    stop = threading.Thread(target=server.shutdown)

    def end(*_: object) -> None:
        if "stubborn" in FAULTS:
            print("stubborn: SIGTERM", flush=True)
        elif not Handler.ending.is_set():
            Handler.ending.set()
            stop.start()

    signal.signal(signal.SIGTERM, end)
    server.serve_forever(poll_interval=0.05)
    server.server_close()


if __name__ == "__main__":
    main()
