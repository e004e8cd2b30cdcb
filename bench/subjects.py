"""What is measured: the processes, each pinned to its core, and the one that loads them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from bench.clock import cores, pinned
from bench.double import MODEL
from bench.load import Job, Tally

ROOT = Path(__file__).parents[1]
PATIENCE = 60.0

GATEWAY, DIRECT, HELLO, PASS_THROUGH, NGINX = "penstock", "direct", "uvicorn", "fastapi+httpx", "nginx"
DYNAMO = "penstock on DynamoDB"
EXACT, LEASED, LEASED_MONEY = "exact", "leased", "leased, with tokens and a budget"

MANY = 10**9
OFF = "limits: {enabled: false}"
_ALL = ", ".join(f"{scope}: {{requests_per_minute: {MANY}}}" for scope in ("gateway", "endpoint", "address"))
LIMITS = {
    EXACT: f"limits: {{{_ALL}, key: {{requests_per_minute: {MANY}}}, lease_from: {MANY + 1}}}",
    LEASED: f"limits: {{{_ALL}, key: {{requests_per_minute: {MANY}}}}}",
    LEASED_MONEY: f"limits: {{{_ALL}, key: {{requests_per_minute: {MANY}, tokens_per_minute: {MANY}}}}}\n"
    "budgets: {key: {daily: 100000}}",
}
"""The scopes of the defaults, with numbers that refuse nothing."""

CONFIG = """\
auth: {{mode: keys}}
{limits}
prices: [{{provider: double, input: 1, output: 1}}]
providers:
  - name: double
    type: openai
    base_url: http://127.0.0.1:{port}/v1
    models: [{model}]
"""

NGINX_CONFIG = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ worker_connections 2048; }}
http {{
  access_log off;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  keepalive_requests 100000000;
  upstream double {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://double; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Subject:
    """A server under load. ``key`` is what its callers present."""

    name: str
    port: int
    pid: int
    key: str = ""


class Fleet:
    """The servers of one run, ended with the block. What is measured has the first core for itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ours, self._theirs = cores()
        self._stack = ExitStack()
        self._load: subprocess.Popen[str]
        self._commands: IO[str]
        self._answers: IO[str]
        self.direct: Subject

    def __enter__(self) -> Fleet:
        port = free_port()
        double = self._start("double", [sys.executable, "-m", "bench.double", str(port)], self._theirs)
        self.direct = Subject(DIRECT, port, double.pid)
        self._await("double", double, port)
        with pinned(self._theirs):
            self._load = subprocess.Popen(
                [sys.executable, "-m", "bench.load"],
                cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
        assert self._load.stdin is not None
        assert self._load.stdout is not None
        self._commands = self._stack.enter_context(self._load.stdin)
        self._answers = self._stack.enter_context(self._load.stdout)
        self._stack.callback(_end, self._load)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def measure(self, subject: Subject, job: Job) -> Tally:
        """Load one subject; its CPU time is that of its own process."""
        told = replace(job, port=subject.port, pid=subject.pid, key=subject.key)
        self._commands.write(json.dumps(asdict(told)) + "\n")
        self._commands.flush()
        answer = self._answers.readline()
        if not answer:
            raise RuntimeError(f"the load on {subject.name} failed; the lines above say why, and {self.folder} more")
        return Tally(**json.loads(answer))

    # the subjects

    def gateway(
        self,
        state: str | None = None,
        environment: Mapping[str, str] | None = None,
        *,
        name: str = GATEWAY,
        limits: str = OFF,
    ) -> Subject:
        """Penstock as it is served: a key of its own store, SQLite state unless told, its ledger and its log."""
        folder = self.folder / name.replace(" ", "-").replace(",", "")
        folder.mkdir()
        config = folder / "config.yaml"
        config.write_text(CONFIG.format(port=self.direct.port, model=MODEL, limits=limits), encoding="utf-8")
        place = ["--config", str(config), "--state", state or f"sqlite:///{folder}/state.db"]
        outside = clean_environment() | dict(environment or {})
        penstock = [sys.executable, "-m", "penstock"]
        made = subprocess.run(
            [*penstock, "keys", "new", *place], cwd=ROOT, env=outside, capture_output=True, text=True, check=True
        )
        port = free_port()
        process = self._start(name, [*penstock, "serve", "--port", str(port), *place], self._ours, outside)
        return self._ready(Subject(name, port, process.pid, made.stdout.split()[0]), process)

    def hello(self) -> Subject:
        """A bare uvicorn."""
        return self._uvicorn(HELLO, "bench.hello:app", {})

    def pass_through(self) -> Subject:
        """FastAPI and httpx."""
        return self._uvicorn(PASS_THROUGH, "bench.pass_through:app", {})

    def nginx(self) -> Subject | None:
        """nginx as a proxy, if there is one on this machine."""
        program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        if program is None:
            return None
        folder, port = self.folder / "nginx", free_port()
        folder.mkdir()
        config = folder / "nginx.conf"
        config.write_text(NGINX_CONFIG.format(folder=folder, port=port, upstream=self.direct.port), encoding="utf-8")
        process = self._start(NGINX, [program, "-p", str(folder), "-c", str(config)], self._ours)
        return self._ready(Subject(NGINX, port, process.pid), process)

    def moto(self) -> str:
        """A DynamoDB on this machine; its address."""
        port = free_port()
        process = self._start("moto", [sys.executable, "-m", "moto.server", "-p", str(port)], self._theirs)
        self._await("moto", process, port)
        return f"http://127.0.0.1:{port}"

    def _uvicorn(self, name: str, app: str, environment: dict[str, str]) -> Subject:
        port = free_port()
        command = [
            *(sys.executable, "-m", "uvicorn", app, "--port", str(port), "--loop", "uvloop", "--http", "httptools"),
            *("--lifespan", "off", "--no-access-log", "--log-level", "warning"),
        ]
        upstream = {"BENCH_UPSTREAM": f"http://127.0.0.1:{self.direct.port}"}
        process = self._start(name, command, self._ours, clean_environment() | upstream | environment)
        return self._ready(Subject(name, port, process.pid), process)

    # processes

    def _start(
        self, name: str, command: list[str], on: set[int], environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        log = self._stack.enter_context((self.folder / f"{name}.log".replace(" ", "-")).open("wb"))
        with pinned(on):
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment or clean_environment(), stdout=log, stderr=log
            )
        self._stack.callback(_end, process)
        return process

    def _ready(self, subject: Subject, process: subprocess.Popen[bytes]) -> Subject:
        self._await(subject.name, process, subject.port)
        return subject

    def _await(self, name: str, process: subprocess.Popen[Any], port: int) -> None:
        """Wait until the process takes connections."""
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
                return
            except OSError:
                time.sleep(0.02)
        log = (self.folder / f"{name}.log".replace(" ", "-")).read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"{name} did not start:\n{log[-2000:]}")


def free_port() -> int:
    """A TCP port that nobody holds just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environment() -> dict[str, str]:
    """This environment without what would configure a gateway, and with the checkout's source root."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "PENSTOCK_", "PYTHONDONTWRITEBYTECODE"))
        and not name.endswith(("API_KEY", "API_KEYS"))
    }
    return kept | {"PYTHONPATH": f"{ROOT / 'functions'}{os.pathsep}{ROOT}"}


def _end(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
