"""Log lines that go elsewhere: by UDP as IIR's document tells it, into a file as Proxy's does; on both stores."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contract.conftest import CONFIG, Serve
from tests.contract.examples import example
from tests.e2e.server import Server, environment, penstock, wait_for
from tests.ports import free_port

KEY = "test-key-123"
PROMPT = "the canary of this prompt sings"

pytestmark = pytest.mark.timeout(180)


@contextmanager
def listening(folder: Path, *command: str) -> Iterator[Path]:
    """A program that listens, and the file that it prints to."""
    printed = folder / "printed.txt"
    with printed.open("wb") as out, subprocess.Popen(command, env=environment(), stdout=out) as process:
        try:
            yield printed
        finally:
            process.kill()


def lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a log that are whole."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line[-1] == "\n"]


def ask(gateway: Server, text: str = PROMPT) -> str:
    """Ask for an answer; the id of the request."""
    body = {"model": "echo", "messages": [{"role": "user", "content": text}]}
    answer = httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers={"x-api-key": KEY}, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-request-id"]


def told(printed: Path, gateway: Server) -> None:
    """Ask until a line of it has arrived; then see that all lines have, and no key and no prompt."""
    asked: set[str] = set()

    def arrived() -> bool:
        asked.add(ask(gateway))
        return bool(asked & {line.get("request_id") for line in lines(printed)})

    wait_for(arrived, "a line to arrive")
    last = ask(gateway)
    wait_for(lambda: last in {line.get("request_id") for line in lines(printed)}, "the last line to arrive")
    ours = {json.dumps(line) for line in lines(gateway.folder / "err.txt")}
    came = [json.dumps(line) for line in lines(printed)]
    assert ours.issuperset(came)
    assert KEY not in str(came)
    assert PROMPT not in str(came)


@pytest.mark.row("I5")
def test_the_documents_own_listener_gets_every_line(serve: Serve, tmp_path: Path) -> None:
    port = free_port()
    script = example("iir_models", "2. Start your log listener").replace("9999", str(port))
    with listening(tmp_path, sys.executable, "-u", "-c", script) as printed:
        told(printed, serve(CONFIG, REMOTE_LOG_SINK=f"127.0.0.1:{port}"))


@pytest.mark.row("I5")
def test_penstock_listens_and_the_sink_may_be_a_name(serve: Serve, tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "penstock", "logs", "listen", "--host", "127.0.0.1", "--port", str(port)]
    with listening(tmp_path, *command) as printed:
        told(printed, serve(CONFIG, REMOTE_LOG_SINK=f"localhost:{port}"))


@pytest.mark.row("I5")
def test_a_listener_that_is_not_there_or_has_no_address_disturbs_nobody(serve: Serve) -> None:
    for sink in (f"127.0.0.1:{free_port()}", "nowhere.invalid:9999"):
        gateway = serve(CONFIG, REMOTE_LOG_SINK=sink)
        for _ in range(3):
            ask(gateway)


@pytest.mark.row("I5")
@pytest.mark.parametrize("sink", ["nowhere", "host:", "host:99999", ":9999", "http://host:9999"])
def test_a_sink_that_is_none_is_refused_at_the_start(sink: str, tmp_path: Path) -> None:
    refused = penstock("doctor", folder=tmp_path, REMOTE_LOG_SINK=sink)
    assert refused.returncode == 2
    assert refused.stderr == "penstock: REMOTE_LOG_SINK: must be host:port\n"


@pytest.mark.row("P11")
def test_processes_share_a_file_that_is_rotated(serve: Serve) -> None:
    section = "logging: {level: INFO, format: json, file: logs/proxy_api.log, rotation: {max_size_mb: 0.01}}\n"
    gateway = serve(section + CONFIG, "--workers", "2")
    asked = {ask(gateway) for _ in range(40)}
    folder = gateway.folder / "logs"

    def logged() -> list[str]:
        ids = [line.get("request_id") for path in folder.iterdir() for line in lines(path)]
        return [each for each in ids if each in asked]

    wait_for(lambda: len(logged()) >= len(asked), "all lines")
    assert sorted(logged()) == sorted(asked), "each line is there once"
    names = {path.name for path in folder.iterdir()}
    assert (
        {"proxy_api.log", "proxy_api.log.1"} <= names <= {"proxy_api.log", *(f"proxy_api.log.{n}" for n in range(1, 5))}
    )
    assert asked <= {line.get("request_id") for line in lines(gateway.folder / "err.txt")}


@pytest.mark.row("P11")
def test_a_file_that_cannot_be_written_is_a_mistake_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("no folder", encoding="utf-8")
    (tmp_path / "config.yaml").write_text("providers: []\nlogging:\n  file: logs/a.log\n", encoding="utf-8")
    refused = penstock("doctor", "--config", "config.yaml", folder=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.startswith("penstock: config.yaml:3: logging.file: logs/a.log cannot be written: ")
