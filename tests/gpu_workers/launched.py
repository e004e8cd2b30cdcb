"""`gpu_workers/launch.py` in a process of its own, with a fake engine behind it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.e2e.server import wait_for
from tests.ports import free_port

WORKERS = Path(__file__).parents[2] / "gpu_workers"
LAUNCH = WORKERS / "launch.py"
FAKE = Path(__file__).with_name("fake_engine.py")
PATIENCE = 40.0
KEY, ADMIN = "canary-caller-key", "canary-admin-key"


def rows(folder: Path, text: str = "") -> Path:
    """A models.toml whose model `fake` is the fake engine, with ``text`` below its row."""
    program = folder / "engine.sh"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE}" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    path = folder / "models.toml"
    path.write_text(f'[fake]\nengine = "{program}"\n{text}', encoding="utf-8")
    return path


class Launched:
    """One launch of the model `fake`."""

    def __init__(self, folder: Path, *arguments: str, faults: str = "", rows_text: str = "", **variables: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log, self._out, self._err = folder / "requests", folder / "out", folder / "err"
        keys = {"PENSTOCK_ENGINE_API_KEY": KEY, "PENSTOCK_ENGINE_ADMIN_KEY": ADMIN}
        fake = {"FAKE_ENGINE": faults, "FAKE_ENGINE_LOG": str(self._log)}
        models = rows(folder, rows_text)
        with open(self._out, "wb") as out, open(self._err, "wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, LAUNCH, "fake", "--models", models, "--port", str(self.port), *arguments],
                env={**os.environ, **keys, **fake, **variables, "TMPDIR": str(folder)},
                stdout=out,
                stderr=err,
            )

    def __enter__(self) -> Launched:
        return self

    def __exit__(self, *_: object) -> None:
        for pid in [self.process.pid, *([self.ready_line["engine_pid"]] if self.out else [])]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait(PATIENCE)

    @property
    def out(self) -> str:
        """What it said on standard output."""
        return self._out.read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        """What it and its engine said on standard error."""
        return self._err.read_text(encoding="utf-8")

    @property
    def ready_line(self) -> dict[str, Any]:
        """The line of JSON that says that the engine is ready."""
        line: dict[str, Any] = json.loads(self.out)
        return line

    @property
    def requests(self) -> list[dict[str, Any]]:
        """What the engine was asked, in order."""
        return [json.loads(line) for line in self._log.read_text(encoding="utf-8").splitlines()]

    def ready(self) -> Launched:
        """The launch, once it has said that it is ready."""
        wait_for(self._said_ready, "the launch to say that it is ready", PATIENCE)
        return self

    def _said_ready(self) -> bool:
        assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.err}"
        return self.out.endswith("\n")

    def ended(self) -> int:
        """Its exit status, once it has ended."""
        return self.process.wait(PATIENCE)
