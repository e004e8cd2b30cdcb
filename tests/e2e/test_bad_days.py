"""Days on which the machine, the clock or the network fails: each has a clear error, and nothing is lost."""

from __future__ import annotations

import re
import resource
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.server import KEY, ROOT, SIMULATED, Server, chat, free_port, penstock, wait_for

pytestmark = pytest.mark.timeout(240)
ELSEWHERE = r"or set PENSTOCK_STATE_URL to another path"
LET = rf"let user id \d+ write it and its directory, {ELSEWHERE}"


PERMISSIONS_HOLD = """
import ctypes
if os.geteuid() == 0:  # root gives up CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    ctypes.CDLL(None).prctl(24, 1), ctypes.CDLL(None).prctl(24, 2)
"""
LITTLE_DISK = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
"""


# the state file


def locked_folder(folder: Path) -> Path:
    (folder / "locked").mkdir(mode=0o500)
    return folder / "locked" / "state.db"


def locked_file(folder: Path) -> Path:
    path = folder / "state.db"
    path.touch(mode=0o400)
    return path


def below_a_file(folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file" / "state.db"


def a_folder(folder: Path) -> Path:
    (folder / "state.db").mkdir()
    return folder / "state.db"


def some_text(folder: Path) -> Path:
    (folder / "state.db").write_text("this is no database, but it is long enough to be taken for one\n" * 100)
    return folder / "state.db"


def a_strangers(folder: Path) -> Path:
    with closing(sqlite3.connect(folder / "state.db")) as sql:
        sql.execute("CREATE TABLE theirs (one)")
    return folder / "state.db"


UNUSABLE: dict[Callable[[Path], Path], str] = {
    locked_folder: rf"cannot be made: Permission denied; {LET}",
    locked_file: rf"cannot be written: Permission denied; {LET}",
    below_a_file: rf"cannot be made: \S+ is not a folder; {LET}",
    a_folder: rf"cannot be written: Is a directory; {LET}",
    some_text: rf"is not an SQLite database; move it away, {ELSEWHERE}",
    a_strangers: r"is a database of another program: set PENSTOCK_STATE_URL to another path",
}


@pytest.mark.parametrize("prepare", UNUSABLE, ids=lambda prepare: prepare.__name__)
def test_a_state_file_that_cannot_be_used_is_one_line(prepare: Callable[[Path], Path], tmp_path: Path) -> None:
    path = prepare(tmp_path)
    state = f"sqlite:///{path}"
    ended = penstock("serve", "--port", str(free_port()), "--state", state, folder=tmp_path, before=PERMISSIONS_HOLD)
    assert ended.returncode == 2
    assert re.fullmatch(rf"penstock: the state file {re.escape(str(path))} {UNUSABLE[prepare]}\n", ended.stderr)
    assert ended.stdout == ""


def test_a_full_disk_at_the_start_is_one_line(tmp_path: Path) -> None:
    ended = penstock("serve", "--port", str(free_port()), folder=tmp_path, before=LITTLE_DISK)
    assert ended.returncode == 2
    assert re.fullmatch(r"penstock: the state file \.penstock/state\.db (cannot|is|failed)[^\n]+\n", ended.stderr)
    assert ended.stdout == "", "no key is shown that could not be kept"


def test_a_disk_that_fills_up_loses_nothing(tmp_path: Path) -> None:
    with Server(tmp_path, SIMULATED) as server, server.client() as client:

        def ask() -> str:
            answer = client.post("/v1/chat/completions", json=chat())
            assert answer.status_code == 200
            return str(answer.headers["x-request-id"])

        def health() -> int:
            return client.get("/health").status_code

        names: list[str] = []
        for number in range(1, 21):  # one by one: each is a transaction of its own, and makes the file longer
            names.append(ask())
            wait_for(lambda number=number: len(server.outcomes()) == number, "the outcome")
        full = (tmp_path / ".penstock" / "state.db-wal").stat().st_size
        assert full > 2 * len(server.err), "the log must still find room"
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))
        names += [ask() for _ in range(20)]
        assert health() == 503
        wait_for(lambda: "outcomes wait for the store" in server.err, "the log to say so")
        assert len(server.outcomes()) < 40
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        wait_for(lambda: health() == 200, "the server to be healthy again")
        names += [ask()]
        wait_for(lambda: len(server.outcomes()) == 41, "every outcome")
        assert [outcome["request_id"] for outcome in server.outcomes()] == names
        assert "Traceback" not in server.err


# the clock

CLOCK = """
import os, time
from pathlib import Path

real, offset = time.time, Path(os.environ["CLOCK"])
time.time = lambda: real() + float(offset.read_text())
"""


def test_a_clock_that_jumps_back_harms_nobody(tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    (tmp_path / "sitecustomize.py").write_text(CLOCK, encoding="utf-8")
    variables = {"CLOCK": str(clock), "PYTHONPATH": f"{tmp_path}:{ROOT / 'functions'}"}

    def jump(days: int) -> None:
        clock.with_suffix(".new").write_text(str(days * 86400))
        clock.with_suffix(".new").replace(clock)

    jump(0)
    with Server(tmp_path, SIMULATED, **variables) as server:
        lasting, brief = (
            penstock("keys", "new", "--days", days, folder=tmp_path).stdout.split()[:2] for days in ("1000", "1")
        )

        def status(key: str) -> int:
            with server.client(key) as client:
                return client.post("/v1/chat/completions", json=chat()).status_code

        for days, expected in ((0, (200, 200)), (-400, (200, 200)), (2, (200, 401)), (0, (200, 200))):
            jump(days)
            assert (status(lasting[0]), status(brief[0])) == expected, f"{days} days away"
        jump(-400)
        assert penstock("keys", "revoke", lasting[1], folder=tmp_path).returncode == 0
        wait_for(lambda: status(lasting[0]) == 401, "the revoked key's end")
        with server.client() as client:
            assert client.get("/health").status_code == 200
        server.stop()
    outcomes = server.outcomes()
    assert all(0 <= outcome["duration"] < 60 for outcome in outcomes)
    assert max(outcome["started_at"] for outcome in outcomes) - min(o["started_at"] for o in outcomes) > 400 * 86400
    assert "Traceback" not in server.err


# the network

NETWORK = """
auth: {{api_keys: [test-key]}}
limits: {{enabled: false}}
providers:
  - {{name: refusing, type: openai, base_url: 'http://127.0.0.1:{port}/v1', models: [refused, echo]}}
  - name: nameless
    type: openai
    base_url: http://no-such-host.invalid/v1
    models: [unresolved]
    connect_timeout: 60
  - {{name: silent, type: openai, base_url: 'http://127.0.0.1:{port}/v1'}}
  - {{name: simulated, type: simulated, models: [echo], priority: 2}}
"""


def test_a_provider_that_cannot_be_reached_is_told(tmp_path: Path) -> None:
    port = free_port()
    config = NETWORK.format(port=port)
    quick = {"RES_OPTIONS": "timeout:1 attempts:1"}
    with Server(tmp_path, config, **quick) as server, server.client() as client:

        def ask(model: str, **fields: Any) -> tuple[int, dict[str, Any]]:
            answer = client.post("/v1/chat/completions", json=chat(model=model, **fields))
            return answer.status_code, answer.json().get("error", {})

        for stream in (False, True):
            status, error = ask("refused", stream=stream)
            assert (status, error["code"], error["type"]) == (502, "upstream_unavailable", "upstream_error")
            assert error["message"] == "The provider cannot be reached: Connection refused."

            status, error = ask("unresolved", stream=stream)
            assert (status, error["code"]) == (502, "upstream_unavailable")
            assert error["message"].startswith("The provider cannot be resolved: ")

        assert ask("echo")[0] == 200, "the next provider answers"
        assert {model["id"] for model in client.get("/v1/models").json()["data"]} == {"refused", "unresolved", "echo"}
        assert f"silent does not list its models: 127.0.0.1:{port} cannot be reached: Connection refused" in server.err
        wait_for(lambda: len(server.outcomes()) == 5, "the outcomes")
    assert [outcome["code"] for outcome in server.outcomes()] == ["upstream_unavailable"] * 4 + [""]
    assert KEY not in server.err
    assert "Traceback" not in server.err
