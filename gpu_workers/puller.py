"""The part of `agent.py --pull`: takes jobs from a gateway that cannot call the engine, and posts their answers.

Every job runs in a thread of its own, and always as a stream, for only a closed stream frees the engine at once. What
the engine says is posted as it came: the gateway knows what it means.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

WAIT = 15.0
"""Seconds that the gateway may let the agent wait for jobs."""
PATIENCE = 30.0
"""Seconds for the gateway to take an answer; and beyond its wait, to give jobs."""
RENEW = 5.0
"""Seconds between two renewals of the jobs in hand."""
LOOK = 0.5
"""Seconds between two looks at what has run too long."""
AGAIN = 1.0
"""Seconds after which the gateway is asked again that did not answer."""
DRAINING = 10.0
"""Seconds after which a worker that an operator drains asks again whether it still does."""

Ask = Callable[[str, dict[str, Any], float], tuple[int, dict[str, Any]]]
"""Posts a document to a path below the worker's: the gateway's status (0: it cannot be reached), and its answer."""


class Work:
    """One job in hand: its call to the engine, and how that ended."""

    def __init__(self, job: dict[str, Any], engine: str, key: str, window: int) -> None:
        self.id, self.receipt = str(job["id"]), str(job["receipt"])
        self.until = time.monotonic() + float(job["seconds"])
        self.lost = False
        self.trouble = ""
        self.body: dict[str, Any] = job["body"]
        if (bound := job.get("bound")) and window:  # the engine refuses what goes beyond its context
            most = max(window - int(bound["prompt"]), window // 8)
            self.body[bound["field"]] = min(self.body[bound["field"]], most)
        self._path = str(job["path"])
        self._engine = urlsplit(engine)
        self._key = key
        self._connection: HTTPConnection | None = None

    def result(self) -> dict[str, Any]:
        """Call the engine, and what is to be posted of its answer, whole or not."""
        status, kind, parts, ended = 0, "", [], False
        try:
            if not self.trouble:
                status, kind = self._open()
                while chunk := self._response.read1(65536):
                    parts.append(chunk)
                ended = not self.trouble
        except (OSError, HTTPException, AttributeError):  # a connection that another thread closes loses its parts
            pass
        finally:
            self._close()
        trouble = "" if ended else self.trouble or "unavailable"
        text = b"".join(parts).decode("utf-8", "replace")
        told = {"receipt": self.receipt, "status": status, "content_type": kind, "body": text, "trouble": trouble}
        return told | ({"sent": self.body} if trouble == "stopped" else {})

    def stop(self, trouble: str) -> None:
        """End the call to the engine at once; safe from any thread."""
        self.trouble = self.trouble or trouble
        self._close()

    def _open(self) -> tuple[int, str]:
        kind = HTTPSConnection if self._engine.scheme == "https" else HTTPConnection
        self._connection = kind(self._engine.netloc, timeout=PATIENCE)
        self._connection.connect()
        self._connection.sock.settimeout(None)  # an engine that thinks may be silent for long; `until` ends that
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        self._connection.request("POST", self._engine.path + self._path, json.dumps(self.body).encode(), headers)
        self._response = self._connection.getresponse()
        return self._response.status, (self._response.getheader("content-type") or "")[:200]

    def _close(self) -> None:
        connection = self._connection
        line = connection.sock if connection is not None else None
        if line is not None:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.close()


class Puller:
    """Runs up to ``room`` jobs at once on the engine, 0 for as many as it runs by its own word."""

    def __init__(self, engine: str, key: str, ask: Ask, room: int) -> None:
        self._engine = engine
        self._key = key
        self._ask = ask
        self._room = room
        self._capacity = 1
        self._window = 0
        self._generation = ""
        self._asking = self._stopping = self._over = False
        self._held: dict[str, Work] = {}
        self._changed = threading.Condition()
        self._trouble = ""

    def start(self) -> None:
        """Take jobs from now on, whenever the engine is ready."""
        for loop in (self._claim, self._keep):
            threading.Thread(target=loop, daemon=True).start()

    def ready(self, generation: str, capacity: int = 1, window: int = 0) -> None:
        """The engine is registered under a generation, runs so many calls at once, and has such a context; or, of no
        generation, it is not there.
        """
        with self._changed:
            self._generation, self._capacity, self._window = generation, max(capacity, 1), window
            self._changed.notify_all()

    def stop(self) -> None:
        """Take no more jobs."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    @property
    def busy(self) -> bool:
        """Whether jobs are in hand, or on their way."""
        with self._changed:
            return self._asking or bool(self._held)

    def give_back(self) -> None:
        """Stop what still runs, and let other workers have it."""
        with self._changed:
            self._over = True
            held = dict(self._held)
        for work in held.values():
            work.lost = True
            work.stop("stopped")
        if held:
            self._ask("/jobs/release", _receipts(held), PATIENCE)

    def _claim(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._free > 0)
                if self._stopping:
                    return
                self._asking = True
                wanted = {"generation": self._generation, "most": min(self._free, 100), "wait": WAIT}
            try:
                pause = self._take(*self._ask("/jobs/claim", wanted, WAIT + PATIENCE))
            finally:
                with self._changed:
                    self._asking = False
            self._rest(pause)

    @property
    def _free(self) -> int:
        return (self._room or self._capacity) - len(self._held) if self._generation else 0

    def _take(self, status: int, answer: dict[str, Any]) -> float:
        """Begin the jobs that came; answers for how many seconds to ask for no more."""
        if status != 200:
            self._say(f"the gateway gives no jobs: {status or 'it cannot be reached'}")
            return AGAIN
        self._say("")
        taken = [Work(job, self._engine, self._key, self._window) for job in answer["data"]]
        with self._changed:
            leaving = self._stopping
            if not leaving:
                self._held |= {work.id: work for work in taken}
        if leaving and taken:  # they were on their way when the agent was told to leave
            self._ask("/jobs/release", _receipts({work.id: work for work in taken}), PATIENCE)
        for work in () if leaving else taken:
            threading.Thread(target=self._run, args=(work,), daemon=True).start()
        return DRAINING if answer.get("state") == "draining" else float(answer.get("again", 0.0))

    def _run(self, work: Work) -> None:
        try:
            told = work.result()
            while not work.lost and not self._told(work, told):
                time.sleep(AGAIN)
        finally:
            with self._changed:
                del self._held[work.id]
                self._changed.notify_all()

    def _told(self, work: Work, told: dict[str, Any]) -> bool:
        """Whether the gateway has taken an answer, or never will."""
        status, answer = self._ask(f"/jobs/{work.id}/result", told, PATIENCE)
        if status == 200 and answer.get("status") == "unknown" and "sent" not in told:
            told["sent"] = work.body
            return False
        if status == 0 or status >= 500:
            self._say("the gateway does not take an answer yet, which waits here")
            return False
        if status != 200:
            _tell(f"the gateway refuses an answer: {status}", job=work.id)
        self._say("")
        return True

    def _keep(self) -> None:
        """Renew what is in hand, and end what runs too long, was cancelled, or is another's now."""
        renewed = time.monotonic()
        while not self._over:
            time.sleep(LOOK)
            with self._changed:
                held = dict(self._held)
            now = time.monotonic()
            for work in held.values():
                if now >= work.until:
                    work.stop("timeout")
            if held and now - renewed >= RENEW:
                renewed = now
                _, answer = self._ask("/jobs/renew", _receipts(held), RENEW)
                for job_id, state in answer.get("jobs", {}).items():
                    if state in ("cancelled", "lost"):
                        held[job_id].lost = state == "lost"
                        held[job_id].stop("stopped")

    def _rest(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping, seconds)

    def _say(self, words: str) -> None:
        """What is wrong, once."""
        if words != self._trouble:
            self._trouble = words
            _tell(words or "the gateway gives and takes jobs again")


def _receipts(held: dict[str, Work]) -> dict[str, Any]:
    return {"jobs": {work.id: work.receipt for work in held.values()}}


def _tell(message: str, **fields: Any) -> None:
    print(json.dumps({"logger": "penstock.agent", "message": message, **fields}), file=sys.stderr, flush=True)
