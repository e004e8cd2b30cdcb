#!/usr/bin/env python3
"""Stands beside one SGLang engine and speaks for it to a gateway: it is there, what it has to do, it is leaving.

    PENSTOCK_FLEET_SECRET=… python3 gpu_workers/agent.py --gateway http://gateway:8000 --engine http://127.0.0.1:30000

It registers once the engine's ``/ready`` answers, sends a heartbeat with ``/v1/loads`` every 10 seconds, and says at
once when the engine is no longer ready. On SIGTERM it says that the worker drains, waits until no gateway sends it
calls and the engine has none, and ends; a second signal ends it at once. What fails is told once and tried again.

With --pull it also takes jobs for an engine that the gateway cannot reach, over its own calls alone; `puller.py` does.

The engine's key is read from PENSTOCK_ENGINE_API_KEY. Needs Python 3.11+ and nothing else.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import hmac
import json
import os
import queue
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

FLEET_SECRET = "PENSTOCK_FLEET_SECRET"  # noqa: S105 - the name of a variable
CALLER_KEY = "PENSTOCK_ENGINE_API_KEY"
BEAT = 10.0
"""Seconds between two heartbeats."""
LEASE = 30.0
"""Seconds for which the gateway believes each."""
LOOK = 1.0
"""Seconds between two looks at the engine, and between two attempts to tell the gateway what it does not know yet."""
PATIENCE = 5.0
"""Seconds for one call."""
ROUTED = 4.0
"""Seconds after which no gateway sends a draining worker anything new: none uses a list of workers older than 3."""
NOBODY = 0
"""In place of an HTTP status: no process listens there."""


class Trouble(Exception):
    """What keeps the agent from speaking for its engine, in words for people; ``status`` if the gateway refused."""

    def __init__(self, words: str, status: int = 0) -> None:
        super().__init__(words)
        self.status = status


@dataclass(frozen=True)
class Place:
    """Where the agent stands: its gateway, its engine as it reaches it, and as the gateway does.

    ``drain_within`` is in seconds: so long it waits at most for the engine's last call. ``launcher`` is the process
    that keeps engine and agent, if one does: an agent that has outlived both ends. One that shall ``pull`` takes up to
    ``room`` jobs at once, 0 for as many as the engine runs; it has no ``url``.
    """

    id: str
    gateway: str
    engine: str
    url: str
    models: tuple[str, ...] = ()
    drain_within: float = 300.0
    launcher: int = 0
    pull: bool = False
    room: int = 0
    secret: str = field(default="", repr=False)
    engine_key: str = field(default="", repr=False)


class Agent:
    """One engine's agent. A generation, new for each life of the engine, tells its word from what was said before."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._generation = secrets.token_hex(8)
        self._leave: queue.SimpleQueue[None] = queue.SimpleQueue()  # a signal handler may put into it at any instant
        self._registered = False
        self._beat_at = 0.0
        self._believed_until = time.monotonic() + LEASE  # an earlier agent may have spoken just now
        self._trouble = ""
        # The engine is beside it, so no proxy of the environment stands between; a redirected POST would become a GET.
        self._ask_engine = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        self._ask_gateway = urllib.request.build_opener(_NoRedirects()).open
        self._puller: Any = None
        if place.pull:
            from puller import Puller  # noqa: PLC0415 - where nothing is pulled, this file is enough

            self._puller = Puller(place.engine, place.engine_key, self._ask, place.room)

    def leave(self) -> None:
        """Begin to leave; safe to call from a signal handler."""
        self._leave.put(None)

    def run(self) -> None:
        """Speak for the engine until told to leave, and then until it has nothing to do."""
        patience = 0.0
        if self._puller:
            self._puller.start()
        while not self._told_to_leave(patience):
            self._try(self._look)
            patience = LOOK
        self._depart()

    def _told_to_leave(self, within: float) -> bool:
        try:
            self._leave.get(timeout=within)
        except queue.Empty:
            return False
        return True

    def _try(self, act: Callable[[], None]) -> bool:
        """Whether it went well; what went wrong is told when it is new."""
        try:
            act()
        except Trouble as trouble:
            if str(trouble) != self._trouble:
                tell(str(trouble), worker=self._place.id)
            self._trouble = str(trouble)
            return False
        if self._trouble:
            tell("well again", worker=self._place.id)
        self._trouble = ""
        return True

    def _look(self) -> None:
        """See how the engine is, and tell the gateway what it does not know."""
        status, _ = self._engine("/ready")
        if status != 200:
            if status == NOBODY and self._place.launcher not in (0, os.getppid()):
                self.leave()
            if self._registered:
                self._withdraw()
                self._registered = False
                if self._puller:
                    self._puller.ready("")
                self._generation = secrets.token_hex(8)  # what comes back owes nothing to what failed
            how = "nobody listens there" if status == NOBODY else f"/ready says {status}"
            raise Trouble(f"the engine at {self._place.engine} is not ready: {how}")
        if not self._registered:
            self._register()
        elif time.monotonic() >= self._beat_at:
            self._beat()

    def _register(self) -> None:
        place, told = self._place, self._loads()
        cards = self._engine("/v1/models")[1].get("data", ())
        models = place.models or tuple(card["id"] for card in cards)
        document: dict[str, Any] = {
            "id": place.id,
            "generation": self._generation,
            **({"pull": True} if place.pull else {"url": place.url}),
            "models": list(models),
            "engine_version": str(told.get("version", ""))[:200],
            "gpu": hardware(),
            "load": summed(told),
        }
        self._post("", document)
        self._believed()
        self._registered = True
        if self._puller:
            window = min((int(card.get("max_model_len") or 0) for card in cards), default=0)
            self._puller.ready(self._generation, document["load"]["capacity"], window)
        tell("registered", worker=place.id, models=list(models), gateway=place.gateway)

    def _beat(self) -> None:
        try:
            self._post(f"/{self._place.id}/heartbeat", {"generation": self._generation, "load": summed(self._loads())})
        except Trouble as trouble:
            self._registered = trouble.status != 404
            raise
        self._believed()

    def _believed(self) -> None:
        now = time.monotonic()
        self._beat_at, self._believed_until = now + BEAT, now + LEASE

    def _withdraw(self) -> None:
        """Have the gateway send nothing new; one that does not know the worker does not."""
        try:
            self._post(f"/{self._place.id}/drain", {})
        except Trouble as trouble:
            if trouble.status != 404:
                raise
        tell("drains", worker=self._place.id)

    def _depart(self) -> None:
        """Return when no gateway sends calls and the engine has none left, or at the end of patience."""
        end = time.monotonic() + self._place.drain_within
        if self._puller:
            self._puller.stop()
        while not self._try(self._withdraw) and time.monotonic() < min(end, self._believed_until):
            time.sleep(LOOK)
        quiet = time.monotonic() + ROUTED
        while time.monotonic() < end:
            calls = self._calls()
            pulls = self._puller is not None and self._puller.busy
            if (calls is None or (not calls and time.monotonic() >= quiet)) and not pulls:
                break
            if self._registered and time.monotonic() >= self._beat_at:
                self._try(self._beat)
            time.sleep(0.2)
        if self._puller:
            self._puller.give_back()
        tell("left", worker=self._place.id)

    def _calls(self) -> int | None:
        """How many calls the engine has, at least one while it does not tell; ``None`` once it is no more."""
        try:
            if self._engine("/ready")[0] == NOBODY:
                return None
            load = summed(self._loads())
        except Trouble:
            return 1
        return int(load["running"] + load["waiting"])

    def _loads(self) -> dict[str, Any]:
        """The engine's ``/v1/loads``: its version, and what each of its data-parallel ranks has to do."""
        status, told = self._engine("/v1/loads")
        if status in (401, 403):
            raise Trouble(f"the engine at {self._place.engine} does not accept the key in {CALLER_KEY}")
        if status != 200:
            raise Trouble(f"the engine at {self._place.engine} does not tell its load: /v1/loads says {status}")
        return told

    def _engine(self, path: str) -> tuple[int, dict[str, Any]]:
        """The engine's status, or ``NOBODY``, and its document. Raises ``Trouble`` if it does not answer in time."""
        request = urllib.request.Request(self._place.engine + path)
        if self._place.engine_key:
            request.add_header("Authorization", f"Bearer {self._place.engine_key}")
        try:
            with self._ask_engine(request, timeout=PATIENCE) as response:
                status, document = response.status, json.loads(response.read() or b"{}")
        except urllib.error.HTTPError as error:
            return error.code, {}
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, ConnectionRefusedError):
                return NOBODY, {}
            raise Trouble(f"the engine at {self._place.engine} does not answer: {reason}") from None
        return status, document if isinstance(document, dict) else {}

    def _ask(self, path: str, document: dict[str, Any], patience: float) -> tuple[int, dict[str, Any]]:
        """What the gateway says of something about this worker's jobs: its status, 0 for none, and its answer."""
        try:
            return 200, self._post(f"/{self._place.id}{path}", document, patience)
        except Trouble as trouble:
            return trouble.status, {}

    def _post(self, path: str, document: dict[str, Any], patience: float = PATIENCE) -> dict[str, Any]:
        """Tell the gateway; answers what it says. Raises ``Trouble`` where it does not listen or says no."""
        url, body = f"{self._place.gateway}/v1/workers{path}", json.dumps(document).encode()
        request = urllib.request.Request(url, method="POST")
        request.add_header("Content-Type", "application/json")
        if path.endswith("/result"):
            body = gzip.compress(body)
            request.add_header("Content-Encoding", "gzip")
        request.data = body
        request.add_header("X-Penstock-Signature", signature(self._place.secret, "POST", urlsplit(url).path, body))
        try:
            with self._ask_gateway(request, timeout=patience) as response:
                answer = json.loads(response.read() or b"{}")
        except urllib.error.HTTPError as error:
            words = f"the gateway at {self._place.gateway} {_meaning(error.code)}: {error.code} {_said(error)}"
            raise Trouble(words, error.code) from None
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise Trouble(f"the gateway at {self._place.gateway} cannot be reached: {reason}") from None
        return answer if isinstance(answer, dict) else {}


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Leave the redirect as the answer."""


def _meaning(status: int) -> str:
    if status in (401, 403):
        return f"does not accept the signature (is {FLEET_SECRET} the same there?)"
    if status == 404:
        return "does not know this worker, or knows it by another agent"
    return "has failed" if status >= 500 else "refuses"


def _said(error: urllib.error.HTTPError) -> str:
    """The message of an error's body, or its beginning."""
    try:
        text = error.read(2000).decode("utf-8", "replace")
        return str(json.loads(text)["error"]["message"])
    except (OSError, HTTPException):
        return ""
    except (ValueError, KeyError, TypeError):
        return text[:200]


def summed(told: dict[str, Any]) -> dict[str, Any]:
    """What an engine's ``/v1/loads`` tells of all its data-parallel ranks together."""
    loads = told.get("loads") or [{}]
    return {
        "running": sum(int(load.get("num_running_reqs", 0)) for load in loads),
        "waiting": sum(int(load.get("num_waiting_reqs", 0)) for load in loads),
        "kv_use": min(1.0, max(float(load.get("token_usage", 0.0)) for load in loads)),
        "capacity": sum(int(load.get("max_running_requests", 0)) for load in loads),
    }


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


def place_of(gateway: str, engine: str, url: str | None, id: str | None, **more: Any) -> Place:
    """An agent's place, with its secrets from the environment. Raises ``ValueError`` with what is wrong with it."""
    secret = os.environ.get(FLEET_SECRET, "")
    if not secret:
        raise ValueError(f"{FLEET_SECRET} is not set: it is the secret that the gateway has too")
    for address in (gateway, engine, url or engine):
        if urlsplit(address).scheme not in ("http", "https") or not urlsplit(address).hostname:
            raise ValueError(f"{address!r} is no address such as http://host:port")
    if url is None and not more.get("pull") and _is_here(engine) and not _is_here(gateway):
        raise ValueError(f"the gateway at {gateway} cannot reach {engine}: say with --url what it is called there")
    engine = engine.rstrip("/")
    name = id or f"{socket.gethostname()[:57]}-{urlsplit(engine).port or 80}"
    key = os.environ.get(CALLER_KEY, "")
    return Place(name, gateway.rstrip("/"), engine, (url or engine).rstrip("/"), secret=secret, engine_key=key, **more)


def _is_here(address: str) -> bool:
    return urlsplit(address).hostname in ("127.0.0.1", "::1", "localhost")


def main(words: list[str]) -> int:
    """Run an agent until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="agent.py", description="Speaks for one SGLang engine to a Penstock gateway.")
    parser.add_argument("--gateway", required=True, help="address of the gateway, such as https://gateway.example")
    parser.add_argument("--engine", default="http://127.0.0.1:30000", help="the engine, as this agent reaches it")
    parser.add_argument("--url", help="the engine, as the gateway reaches it (default: --engine)")
    parser.add_argument("--pull", action="store_true", help="take jobs for an engine that the gateway cannot reach")
    parser.add_argument("--pull-concurrency", type=int, default=0, metavar="N", help="so many at once (the engine's)")
    parser.add_argument("--id", help="the worker's name (default: the host's, and the engine's port)")
    parser.add_argument("--model", action="append", default=[], help="a public model name; default: the engine's own")
    parser.add_argument("--drain-within", type=float, default=300.0, metavar="SECONDS", help="wait no longer (300)")
    parser.add_argument("--leave", action="store_true", help="drain at once, for a worker whose agent has died")
    parser.add_argument(
        "--launcher", type=int, default=0, metavar="PID", help="end once this parent and the engine have"
    )
    given = parser.parse_args(words)
    more = {"models": tuple(given.model), "drain_within": given.drain_within, "launcher": given.launcher}
    more |= {"pull": given.pull, "room": max(given.pull_concurrency, 0)}
    try:
        agent = Agent(place_of(given.gateway, given.engine, given.url, given.id, **more))
    except ValueError as error:
        tell(str(error))
        return 2

    def leave(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        agent.leave()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    if given.leave:
        agent.leave()
    agent.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
