"""``penstock serve`` from its first line to its last: greeting, serving, being told to stop."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.providers._profiles import PROFILES
from tests.e2e.server import (
    KEY,
    PATIENCE,
    ROOT,
    SIMULATED,
    Server,
    chat,
    environment,
    payloads,
    penstock,
    said,
    wait_for,
)

pytestmark = pytest.mark.timeout(240)
GRACEFUL = (0, -signal.SIGTERM)
"""Exit statuses of an orderly end: uvicorn ends by the signal that it was sent."""


def slowly(tokens: int, per_second: float) -> dict[str, Any]:
    """A streamed request whose answer takes its time."""
    return chat("a b c d", stream=True, simulate={"tokens": tokens, "tokens_per_second": per_second})


# the first key


def test_the_first_key_is_shown_once_and_works(tmp_path: Path) -> None:
    with Server(tmp_path, "providers: [{name: simulated, type: simulated, models: [echo]}]\n") as first:
        key = first.first_key
        assert ask(first, key) == 200
        assert first.out.count("psk-") == 2, "once by itself and once in the curl line"
        assert key not in first.err
    (tmp_path / "out.txt").unlink()
    with Server(tmp_path, "", "--config", "config.yaml") as second:
        assert "psk-" not in second.out
        assert "$PENSTOCK_API_KEY" in second.out
        assert ask(second, key) == 200
    kept = [file for file in (tmp_path / ".penstock").rglob("*") if file.is_file()]
    assert kept
    assert key.encode() not in b"".join(file.read_bytes() for file in kept)


def engines_around() -> list[int]:
    """The usual ports of local engines that somebody listens on: they would be found."""
    found = []
    for port in (profile.port for profile in PROFILES.values() if profile.port):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                found.append(port)
    return found


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not on PATH")
def test_without_any_configuration_the_printed_line_works(tmp_path: Path) -> None:
    if ports := engines_around():
        pytest.skip(f"an engine of this machine listens on {ports}, and would answer")
    with Server(tmp_path) as server:
        assert re.search(r"^  models  .*simulated/echo", server.out, re.MULTILINE)
        assert server.err.count('"level":"WARNING"') == 0, "nobody configured what was not found"
        line = next(line for line in server.out.splitlines() if line.strip().startswith("curl "))
        answer = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
    events = list(payloads(iter(answer.splitlines())))
    assert said(events) == "[simulated] Hello!"
    assert events[-1] == "[DONE]"


def test_without_keys_everybody_is_let_in(tmp_path: Path) -> None:
    with Server(tmp_path, "auth: {mode: none}\n" + SIMULATED.split("\n", 1)[1]) as server:
        assert "psk-" not in server.out
        assert "Authorization" not in server.out
        assert httpx.post(f"{server.url}/v1/chat/completions", json=chat()).status_code == 200


# where it listens


def test_the_command_line_goes_before_variables_and_they_before_the_file(tmp_path: Path) -> None:
    config = tmp_path / "elsewhere.yaml"
    config.write_text("server: {host: 127.0.0.9, port: 9}\n" + SIMULATED, encoding="utf-8")
    variables = {"PENSTOCK_HOST": "127.0.0.2", "PENSTOCK_PORT": "9", "PENSTOCK_CONFIG": str(config)}
    variables["PENSTOCK_STATE_URL"] = "sqlite:///elsewhere.db"
    with Server(tmp_path, "", "--host", "127.0.0.1", **variables) as server:
        assert f"Penstock 0.1.0 on {server.url}\n" in server.out
        assert "sqlite:///elsewhere.db" in server.out
        with server.client() as client:
            assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["echo"]
        assert (tmp_path / "elsewhere.db").exists()
        assert not (tmp_path / ".penstock").exists()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.2:{server.port}/health")


def test_variables_alone_are_enough(tmp_path: Path) -> None:
    with Server(tmp_path, "", at="127.0.0.2", PENSTOCK_HOST="127.0.0.2", API_KEYS="one,two") as server:
        assert httpx.get(f"{server.url}/v1/models", headers={"x-api-key": "two"}).status_code == 200


@pytest.mark.skipif(not shutil.which("make"), reason="make is not on PATH")
@pytest.mark.parametrize(
    ("given", "passed"),
    [
        ((), ""),
        (("PORT=9000",), '--port "9000"'),
        (("HOST=::1", "PORT=9000", "CONFIG=my config.yaml"), '--host "::1" --port "9000" --config "my config.yaml"'),
    ],
)
def test_make_run_passes_on_what_it_is_given_and_leaves_the_rest_to_the_file(
    given: tuple[str, ...], passed: str
) -> None:
    command = ["make", "--dry-run", "--no-print-directory", "run", *given]
    told = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True).stdout
    serve = next(line for line in told.splitlines() if "penstock serve" in line)
    assert " ".join(serve.partition("penstock serve")[2].split()) == passed


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_it_listens_on_ipv6(tmp_path: Path) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with Server(tmp_path, SIMULATED, "--host", "::1", at="[::1]") as server:
        assert f"on http://[::1]:{server.port}\n" in server.out


def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        ended = penstock("serve", "--port", str(port), folder=tmp_path)
    where = f"127.0.0.1:{port}"
    assert ended.returncode == 2
    assert ended.stderr == (
        f"penstock: {where}: cannot listen there: Address already in use. Choose another with --port or --host\n"
    )
    assert ended.stdout == "", "no key is made and shown by a server that cannot serve"


# being told to stop


def test_told_to_stop_it_ends_what_is_open_and_loses_nothing(tmp_path: Path) -> None:
    with (
        Server(tmp_path, SIMULATED) as server,
        server.client() as client,
        client.stream("POST", "/v1/chat/completions", json=slowly(20, 10)) as stream,
    ):
        lines = stream.iter_lines()
        events = [next(payloads(lines))]
        for _ in range(30):
            assert ask(server, KEY) == 200
        server.process.terminate()
        wait_for(lambda: refused(server), "new connections to be refused")
        events += payloads(lines)
        assert events[-1] == "[DONE]"
        assert said(events) == "".join(["[simulated]", " a", " b", " c", " d"] * 4)
        assert server.process.wait(PATIENCE) in GRACEFUL
    streamed, *plain = server.outcomes()
    assert (streamed["ended"], streamed["status"], streamed["completion_tokens"]) == ("ok", 200, 20)
    assert [outcome["status"] for outcome in plain] == [200] * 30
    assert "Traceback" not in server.err


def refused(server: Server) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=1):
            return False
    except ConnectionError:
        return True


# several processes


def test_two_workers_share_their_keys_and_their_ledger_and_a_dead_one_is_replaced(tmp_path: Path) -> None:
    with Server(tmp_path, SIMULATED, "--workers", "2") as server:
        workers = wait_for(lambda: two_that_serve(server), "two workers")
        made = penstock("keys", "new", folder=tmp_path)
        key, name, *_ = made.stdout.split()
        for worker in workers:
            with only(worker, workers):
                assert ask(server, key) == 200
        assert penstock("keys", "revoke", name, folder=tmp_path).returncode == 0
        for worker in workers:
            wait_for(lambda worker=worker: ask_only(server, key, worker, workers) == 401, "the revoked key's end")
        os.kill(workers[0], signal.SIGKILL)
        assert workers[1] in wait_for(lambda: two_that_serve(server, 3), "another worker")
        assert ask(server, KEY) == 200
        assert server.stop() == 0
    assert {outcome["key_id"] for outcome in server.outcomes()} == {name, "config-1"}
    assert "Traceback" not in server.err


def two_that_serve(server: Server, started: int = 2) -> list[int]:
    """The workers, once there are two and so many have started."""
    children = (
        Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text(encoding="ascii").split()
    )
    workers = [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return workers if len(workers) == 2 and server.err.count("Application startup complete") == started else []


def stopped(process: int) -> bool:
    return Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "T"


class only:
    """A block in which one worker alone runs, so that it is the one that answers."""

    def __init__(self, worker: int, workers: list[int]) -> None:
        self._others = [other for other in workers if other != worker]

    def __enter__(self) -> None:
        for other in self._others:
            os.kill(other, signal.SIGSTOP)
            wait_for(lambda other=other: stopped(other), "a worker to stand still")

    def __exit__(self, *_: object) -> None:
        for other in self._others:
            os.kill(other, signal.SIGCONT)


def ask(server: Server, key: str) -> int:
    with server.client(key) as client:
        return client.post("/v1/chat/completions", json=chat()).status_code


def ask_only(server: Server, key: str, worker: int, workers: list[int]) -> int:
    with only(worker, workers):
        return ask(server, key)
