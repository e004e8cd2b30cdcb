"""Stands beside one SGLang engine and speaks for it to a gateway: it is there, what it has to do, it is leaving.

    PENSTOCK_FLEET_SECRET=… python gpu_workers/agent.py --gateway http://gateway:8000 --engine http://127.0.0.1:30000

It registers once the engine's ``/ready`` answers, sends a heartbeat with ``/v1/loads`` every 10 seconds, registers
anew when the gateway does not know it, and on SIGTERM says that it is draining, waits until the engine has nothing to
do, and ends. Python's standard library is all it needs. The engine's key is read from ``ENGINE_API_KEY``.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

BEAT = 10.0
"""Seconds between two heartbeats; the gateway believes each for 30."""
AGAIN = 1.0
"""Seconds between two attempts to register."""
PATIENCE = 5.0
"""Seconds for one call."""
ROUTED = 3.0
"""Seconds after which no gateway sends a draining worker anything new: they look at the list of workers every 2."""


class Refused(Exception):
    """The gateway understood, and said no: ``status`` and its words."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(f"{status}: {words}")
        self.status = status


@dataclass(frozen=True)
class Place:
    """Where the agent stands: its gateway, its engine as it reaches it, and as the gateway does."""

    id: str
    gateway: str
    engine: str
    url: str
    models: tuple[str, ...]
    secret: str = field(repr=False)
    engine_key: str = field(default="", repr=False)


class Agent:
    """One engine's agent. ``run`` returns once the engine has nothing to do and the gateway knows that it leaves."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._generation = secrets.token_hex(8)
        self._leaving = threading.Event()
        self._registered = False

    def leave(self) -> None:
        """Begin to leave; safe to call from a signal handler."""
        self._leaving.set()

    def run(self) -> None:
        """Speak for the engine until told to leave, and then until it has nothing to do."""
        while not self._leaving.is_set():
            began = time.monotonic()
            self._say()
            self._leaving.wait(max(0.0, BEAT - (time.monotonic() - began)) if self._registered else AGAIN)
        self.drain()

    def drain(self, patience: float = 120.0) -> None:
        """Tell the gateway that nothing more is wanted, and wait until what was begun has ended."""
        if self._registered:
            try:
                self._post(f"/v1/workers/{self._place.id}/drain", {})
            except (OSError, Refused) as error:
                tell("the gateway was not told that this worker drains", error=str(error))
        now = time.monotonic()
        routed_until, end = now + ROUTED, now + patience
        while time.monotonic() < end:
            load = self._load()
            if load is None or (time.monotonic() > routed_until and not load["running"] and not load["waiting"]):
                break
            time.sleep(0.2)
        tell("drained", worker=self._place.id)

    def _say(self) -> None:
        """Register, or send a heartbeat; what fails is tried again at the next turn."""
        if self._ask("/ready") is None:
            return
        try:
            if self._registered:
                self._beat()
            else:
                self._register()
        except Refused as error:
            self._registered = self._registered and error.status != 404
            tell("the gateway refused", error=str(error))
        except OSError as error:
            tell("the gateway cannot be reached", error=str(error))

    def _register(self) -> None:
        place = self._place
        info = self._ask("/get_server_info") or {}
        models = place.models or tuple(card["id"] for card in (self._ask("/v1/models") or {}).get("data", ()))
        self._post(
            "/v1/workers",
            {
                "id": place.id,
                "generation": self._generation,
                "url": place.url,
                "models": list(models),
                "engine_version": str(info.get("version", ""))[:200],
                "gpu": hardware(),
                "load": self._load() or {},
            },
        )
        self._registered = True
        tell("registered", worker=place.id, models=list(models))

    def _beat(self) -> None:
        body = {"generation": self._generation, "load": self._load() or {}}
        self._post(f"/v1/workers/{self._place.id}/heartbeat", body)

    def _load(self) -> dict[str, Any] | None:
        """What the engine has to do, over all its data-parallel ranks; ``None`` if it does not answer."""
        answer = self._ask("/v1/loads")
        if answer is None:
            return None
        loads = answer.get("loads") or [{}]
        return {
            "running": sum(int(load.get("num_running_reqs", 0)) for load in loads),
            "waiting": sum(int(load.get("num_waiting_reqs", 0)) for load in loads),
            "kv_use": min(1.0, max(float(load.get("token_usage", 0.0)) for load in loads)),
            "capacity": sum(int(load.get("max_running_requests", 0)) for load in loads),
        }

    def _ask(self, path: str) -> dict[str, Any] | None:
        """The engine's answer; ``None`` if it has none to give."""
        request = urllib.request.Request(self._place.engine + path)
        if self._place.engine_key:
            request.add_header("Authorization", f"Bearer {self._place.engine_key}")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as response:
                document = json.loads(response.read() or b"{}")
        except OSError:
            return None
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}

    def _post(self, path: str, document: dict[str, Any]) -> None:
        url, body = self._place.gateway + path, json.dumps(document).encode()
        request = urllib.request.Request(url, body, method="POST")
        request.add_header("Content-Type", "application/json")
        request.add_header("X-Penstock-Signature", signature(self._place.secret, "POST", urlsplit(url).path, body))
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as response:
                response.read()
        except urllib.error.HTTPError as error:
            raise Refused(error.code, error.read(1000).decode("utf-8", "replace")) from None


def signature(secret: str, method: str, path: str, body: bytes) -> str:
    """What proves that a request comes from the fleet: its time, and an HMAC-SHA256 of time, method, path and body."""
    at = int(time.time())
    signed = f"{at}.{method}.{path}.".encode() + body
    return f"t={at},v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"


def hardware() -> dict[str, Any]:
    """The GPUs of this machine as ``nvidia-smi`` tells them: name, memory of each in MiB, count; empty without any."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
        rows = [line.rsplit(",", 1) for line in told.splitlines() if line.strip()]
        return {"name": rows[0][0].strip(), "memory": int(rows[0][1]), "count": len(rows)} if rows else {}
    except (OSError, subprocess.SubprocessError, ValueError):
        return {}


def tell(message: str, **fields: Any) -> None:
    """One line of JSON on standard error."""
    print(json.dumps({"logger": "penstock.agent", "message": message, **fields}), file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run an agent until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="agent.py", description="Speaks for one SGLang engine to a Penstock gateway.")
    parser.add_argument("--gateway", required=True, help="address of the gateway, such as https://gateway.example")
    parser.add_argument("--engine", default="http://127.0.0.1:30000", help="the engine, as this agent reaches it")
    parser.add_argument("--url", help="the engine, as the gateway reaches it (default: --engine)")
    parser.add_argument("--id", default=socket.gethostname(), help="the worker's name (default: the host's)")
    parser.add_argument("--model", action="append", default=[], help="a public model name; default: the engine's own")
    options = parser.parse_args(arguments)
    secret = os.environ.get("PENSTOCK_FLEET_SECRET", "")
    if not secret:
        print("agent.py: PENSTOCK_FLEET_SECRET is not set: it is the secret that the gateway has too", file=sys.stderr)
        return 2
    for url in (options.gateway, options.engine, options.url or options.engine):
        if urlsplit(url).scheme not in ("http", "https"):
            parser.error(f"{url!r} is no address such as http://host:port")
    engine = options.engine.rstrip("/")
    place = Place(
        id=options.id,
        gateway=options.gateway.rstrip("/"),
        engine=engine,
        url=(options.url or engine).rstrip("/"),
        models=tuple(options.model),
        secret=secret,
        engine_key=os.environ.get("ENGINE_API_KEY", ""),
    )
    agent = Agent(place)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.leave())
    agent.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
