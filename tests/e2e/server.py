"""A gateway in a process of its own, started as a person starts it."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tests.ports import free_port

ROOT = Path(__file__).parents[2]
KEY = "test-key"
PATIENCE = 90.0
"""Seconds for what takes a second on a machine that has nothing else to do."""
T = TypeVar("T")
SIMULATED = """\
auth: {api_keys: [test-key]}
limits: {enabled: false}
providers:
  - {name: simulated, type: simulated, models: [echo]}
"""


def wait_for(condition: Callable[[], T], what: str, seconds: float = PATIENCE) -> T:
    """The first true answer of ``condition``; a failure naming ``what`` when there is none in time."""
    end = time.monotonic() + seconds
    while True:
        if answer := condition():
            return answer
        assert time.monotonic() < end, f"waited {seconds:g} s in vain for {what}"
        time.sleep(0.02)


def environment(**variables: str) -> dict[str, str]:
    """An environment without a trace of the machine's own keys and settings."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "COVERAGE_PROCESS_START") if name in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT / "functions"), **variables}


def penstock(*arguments: str, folder: Path, before: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end; ``before`` is Python that its process runs before it begins."""
    begin = f"import os, sys\n{before}\nos.execv(sys.executable, [sys.executable, '-m', 'penstock', *sys.argv[1:]])"
    return subprocess.run(
        [sys.executable, *(("-c", begin) if before else ("-m", "penstock")), *arguments],
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


class Server:
    """``penstock serve`` in ``folder``; ``config`` is the text of its config.yaml, ``at`` the host where it answers."""

    def __init__(
        self, folder: Path, config: str = "", *arguments: str, at: str = "127.0.0.1", port: int = 0, **variables: str
    ) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.url = f"http://{at}:{self.port}"
        if config:
            (folder / "config.yaml").write_text(config, encoding="utf-8")
            arguments = ("--config", "config.yaml", *arguments)
        self.process = self._start(["serve", "--port", str(self.port), *arguments], environment(**variables))

    def _start(self, arguments: list[str], environment: dict[str, str]) -> Any:
        with open(self.folder / "out.txt", "ab") as out, open(self.folder / "err.txt", "ab") as err:
            command = [sys.executable, "-m", "penstock", *arguments]
            return subprocess.Popen(command, cwd=self.folder, env=environment, stdout=out, stderr=err)

    def __enter__(self) -> Server:
        try:
            wait_for(self._answers, "the server to answer /health")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise

    def _answers(self) -> bool:
        assert self.process.poll() is None, f"the server ended with {self.process.returncode}: {self.err}"
        try:
            with self.client() as client:
                return client.get("/health").status_code in (200, 503)
        except httpx.TransportError:
            return False

    @property
    def out(self) -> str:
        """What it has printed."""
        return (self.folder / "out.txt").read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        """What it has logged."""
        return (self.folder / "err.txt").read_text(encoding="utf-8")

    @property
    def first_key(self) -> str:
        """The key that it printed."""
        return re.findall(r"key +(psk-\w+)", self.out)[0]

    def client(self, key: str = KEY) -> httpx.Client:
        """A client that holds a key; without certificates to read it is made in no time."""
        headers = {"authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE, verify=False)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; its exit status once it has."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def outcomes(self) -> list[dict[str, Any]]:
        """The ledger, oldest first."""
        with closing(sqlite3.connect(f"file:{self.folder}/.penstock/state.db?mode=ro", uri=True)) as sql:
            sql.row_factory = sqlite3.Row
            return [dict(row) for row in sql.execute("SELECT * FROM outcomes ORDER BY started_at")]


def chat(text: str = "hello", **fields: Any) -> dict[str, Any]:
    """A chat request that is good."""
    return {"model": "echo", "messages": [{"role": "user", "content": text}], **fields}


def payloads(lines: Iterator[str]) -> Iterator[str]:
    """The data of a stream's events."""
    return (line.removeprefix("data: ") for line in lines if line.startswith("data: "))


def said(stream: list[str]) -> str:
    """The text that the payloads of a chat stream spell."""
    choices = [choice for payload in stream if payload != "[DONE]" for choice in json.loads(payload)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)
