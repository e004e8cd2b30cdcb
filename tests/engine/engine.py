"""The real SGLang in a process of its own, started by the script that a person starts it with."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.e2e.server import ROOT, free_port, wait_for

SERVE = ROOT / "gpu_workers" / "cpu" / "serve.sh"
KEY = "engine-key"
SECONDS_TO_START = 600.0
PATIENCE = 60.0


@dataclass(frozen=True)
class Load:
    """What an engine says of itself: calls that run and that wait, and tokens held for them."""

    running: int
    waiting: int
    tokens: int


class Engine:
    """An engine that starts in the background; ``flags`` are SGLang's own."""

    def __init__(self, folder: Path, name: str, *flags: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / f"{name}.log"
        with open(self._log, "wb") as log:
            self.process = subprocess.Popen(
                [str(SERVE), "--port", str(self.port), "--api-key", KEY, *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "NO_COLOR": "1"},
            )

    def ready(self) -> Engine:
        """The engine, once it answers."""
        wait_for(self._answers, "the engine to be ready", SECONDS_TO_START)
        return self

    def _answers(self) -> bool:
        assert self.process.poll() is None, f"the engine ended with {self.process.returncode}:\n{self.last_words}"
        try:
            return httpx.get(f"{self.url}/ready").status_code == 200
        except httpx.TransportError:
            return False

    @property
    def last_words(self) -> str:
        """The end of its log."""
        return self._log.read_text(encoding="utf-8", errors="replace")[-4000:]

    async def load(self) -> Load:
        """What it does at this moment."""
        async with httpx.AsyncClient(headers={"authorization": f"Bearer {KEY}"}, timeout=PATIENCE) as client:
            (told,) = (await client.get(f"{self.url}/v1/loads")).json()["loads"]
        return Load(told["num_running_reqs"], told["num_waiting_reqs"], told["num_used_tokens"])

    async def until(self, condition: Callable[[Load], bool], what: str, seconds: float = PATIENCE) -> float:
        """Wait until its load is as the test wants it; how long that took, in seconds."""
        started = time.monotonic()
        load = await self.load()
        while not condition(load):
            assert time.monotonic() - started < seconds, f"waited {seconds:g} s in vain for {what}; {load}"
            load = await self.load()
        return time.monotonic() - started

    async def until_holds(self, calls: int) -> None:
        """Wait until it has so many calls, one of which runs."""
        await self.until(lambda load: (load.running, load.waiting) == (1, calls - 1), f"{calls} calls in the engine")

    async def until_singing(self) -> None:
        """Wait until it is in the middle of one answer."""
        await self.until(lambda load: load.running == 1 and load.tokens >= 60, "an answer to be on its way")

    async def until_idle(self, seconds: float = PATIENCE) -> float:
        """Wait until it has nothing to do; how long that took, in seconds."""
        return await self.until(lambda load: load.running == load.waiting == 0, "the engine to become idle", seconds)

    async def abort(self) -> None:
        """Make it give up all that it does, as its administrator may."""
        async with httpx.AsyncClient(headers={"authorization": f"Bearer {KEY}"}, timeout=PATIENCE) as client:
            (await client.post(f"{self.url}/abort_request", json={"abort_all": True})).raise_for_status()

    def drain(self) -> None:
        """Ask it to end, as an orchestrator does."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it and its children at once."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
