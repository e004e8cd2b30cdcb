"""Processes of the gateway that need not read its code again: forked off one that has read it and done nothing else."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing import forkserver, get_context
from pathlib import Path

import pytest

from penstock import plugs
from tests.e2e.server import ROOT, Server

FOLDERS = ("dialects", "providers", "queues", "stores")
READ = [
    __name__,
    *("penstock.cli", "penstock.server", "penstock.asgi", "penstock.config", "penstock.bootstrap", "uvicorn.main"),
    *("penstock.stores.sqlite.connection", "penstock.stores.dynamodb.connection"),
    *(f"penstock.{folder}.{name}" for folder in FOLDERS for name in plugs.names(folder)),
]
"""What ``penstock serve`` imports until it answers."""


class ForkedServer(Server):
    """A server that has been forked off instead of being started."""

    def _start(self, arguments: list[str], environment: dict[str, str]) -> Forked:
        return Forked(arguments, self.folder, environment)


class Forked:
    """What tests use of a ``Popen``: one ``penstock`` command in ``folder``, which writes to out.txt and err.txt."""

    def __init__(self, arguments: list[str], folder: Path, environment: Mapping[str, str]) -> None:
        context = get_context("forkserver")
        context.set_forkserver_preload(READ)
        with pytest.MonkeyPatch.context() as patch:  # before Python 3.13 it would not look where this process does
            patch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'functions'}")
            forkserver.ensure_running()
        self._process = context.Process(target=_run, args=(arguments, str(folder), dict(environment)), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status, or minus the signal that ended it; nothing while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same, looked at now."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status once it has ended. Raises ``TimeoutExpired``."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("penstock", timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut does."""
        self.send_signal(signal.SIGKILL)


def _run(arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for name, number in (("out.txt", 1), ("err.txt", 2)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["penstock", *arguments]
    importlib.import_module("penstock.cli").main()
