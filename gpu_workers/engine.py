"""One SGLang process: started, watched until it answers, and ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from catalogue import LaunchError, Model

LAST_LINES = 20
PROBE_SECONDS = 0.25

# The engine is on this machine, so no proxy of the environment stands between.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class Engine:
    """SGLang in a session of its own. What it prints goes to standard error, with every secret as ``***``."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, key: str, secrets: Iterable[str]) -> None:
        self.pid = process.pid
        self._url = url
        self._key = key
        self._secrets = [secret for secret in secrets if secret]
        self._process = process
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        # Threads, because the loop's own subprocesses are waited for until their last grandchild closes its output.
        self._words = asyncio.create_task(asyncio.to_thread(self._relay_output))
        self._end = asyncio.create_task(self._until_end())

    @classmethod
    def start(
        cls, command: list[str], environment: Mapping[str, str], url: str, key: str, secrets: Iterable[str]
    ) -> Engine:
        """Start the command, in a running event loop. Raises `LaunchError` when there is no such program."""
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
            )
        except OSError as error:
            raise LaunchError(f"the engine cannot be started: {error}") from error
        return cls(process, url, key, secrets)

    async def ready(self) -> None:
        """Return once ``/ready`` answers 200."""
        # The engine is another process, which tells nobody.
        while await asyncio.to_thread(self._status, "/ready") != 200:  # noqa: ASYNC110
            await asyncio.sleep(PROBE_SECONDS)

    async def warm_up(self, model: Model) -> float:
        """Let the model answer once, and return how many seconds that took. Raises `LaunchError` when it cannot."""
        started = time.monotonic()
        body: dict[str, Any] = {"model": model.name, "input": "hello"}
        path = "/v1/embeddings"
        if model.kind == "chat":
            body = {"model": model.name, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
            path = "/v1/chat/completions"
        try:
            await asyncio.to_thread(self._call, path, body)
        except urllib.error.HTTPError as error:
            said = error.read().decode("utf-8", "replace")[:500]
            raise LaunchError(f"the engine is up and cannot answer: {path} says {error.code} {said}", 1) from error
        except OSError as error:
            raise LaunchError(f"the engine is up and cannot answer: {path}: {error}", 1) from error
        return time.monotonic() - started

    async def ended(self) -> int:
        """The status of the engine once it has ended and its words are read; as a shell tells it, 128 + signal."""
        return await asyncio.shield(self._end)

    def drain(self) -> None:
        """Ask it to finish the calls that it has, and to end."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it and all its children at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    @property
    def last_lines(self) -> str:
        """The end of what it printed, without secrets."""
        return "\n".join(f"  {line}" for line in self._last) or "  (it printed nothing)"

    async def _until_end(self) -> int:
        status = await asyncio.to_thread(self._process.wait)
        self.kill()  # children that outlive it hold its output open, and the GPU
        await self._words
        return status if status >= 0 else 128 - status

    def _relay_output(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as words:
            for raw in words:
                line = raw.decode("utf-8", "replace").rstrip()
                for secret in self._secrets:
                    line = line.replace(secret, "***")
                self._last.append(line)
                print(line, file=sys.stderr, flush=True)

    def _status(self, path: str) -> int:
        """The status of a GET; 0 while nobody answers."""
        try:
            return self._call(path)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def _call(self, path: str, body: dict[str, Any] | None = None) -> int:
        headers = {
            "content-type": "application/json",
            **({"authorization": f"Bearer {self._key}"} if self._key else {}),
        }
        told = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, told, headers)
        with _open(request, timeout=5 if body is None else 300) as response:
            response.read()
            return int(response.status)


def check_port(host: str, port: int) -> None:
    """Raise `LaunchError` where somebody listens on the port already."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise LaunchError(f"{host}:{port} cannot be used: {error.strerror}. Choose another with --port.") from error


@contextlib.contextmanager
def secret_flags(secrets: Mapping[str, str]) -> Iterator[list[str]]:
    """Flags that give SGLang its keys by a file that its user alone may read, so that no process list shows them."""
    kept = {name: secret for name, secret in secrets.items() if secret}
    if not kept:
        yield []
        return
    with tempfile.TemporaryDirectory(prefix="penstock-") as folder:
        file = Path(folder, "keys.yaml")
        file.write_text(json.dumps(kept), encoding="utf-8")
        yield ["--config", str(file)]
