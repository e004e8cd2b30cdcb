"""A launch says when its engine is ready, keeps the keys to itself, drains in order, and tells what failed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

import catalogue
import companion
import launch
from tests.e2e.server import wait_for
from tests.gpu_workers.launched import ADMIN, KEY, LAUNCH, PATIENCE, Launched, rows
from tests.ports import free_port

SING = {"messages": [{"role": "user", "content": "sing"}], "stream": True}
CALLER = {"authorization": f"Bearer {KEY}"}


def test_it_says_one_line_of_json_once_the_model_has_answered(tmp_path: Path) -> None:
    with Launched(tmp_path).ready() as launched:
        line = launched.ready_line
        assert (line["event"], line["model"], line["url"]) == ("ready", "fake", launched.url)
        assert line["seconds"] >= line["first_answer_seconds"] >= 0
        (first,) = launched.requests
        assert first["path"] == "/v1/chat/completions"
        assert first["body"]["model"] == "fake"
        assert first["body"]["max_tokens"] == 8


def test_an_embedding_model_is_warmed_up_with_an_embedding(tmp_path: Path) -> None:
    with Launched(tmp_path, rows_text='kind = "embedding"').ready() as launched:
        assert [request["path"] for request in launched.requests] == ["/v1/embeddings"]


def test_the_keys_reach_the_engine_and_nobody_else(tmp_path: Path) -> None:
    with Launched(tmp_path).ready() as launched:
        assert httpx.post(f"{launched.url}/v1/chat/completions", json={}).status_code == 401
        assert httpx.post(f"{launched.url}/v1/chat/completions", json={}, headers=CALLER).status_code == 200
        seen = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        assert "fake_engine.py" in seen
        given = Path(f"/proc/{launched.ready_line['engine_pid']}/environ")
        environment = given.read_text(encoding="utf-8") if sys.platform == "linux" else ""
        left_behind = [path.read_text(errors="replace") for path in tmp_path.rglob("*.yaml")]
        for place in (seen, environment, launched.out, launched.err, *left_behind):
            assert KEY not in place
            assert ADMIN not in place
        assert "'api_key': '***'" in launched.err


def test_a_signal_lets_the_engine_finish_its_call(tmp_path: Path) -> None:
    with (
        Launched(tmp_path).ready() as launched,
        httpx.stream("POST", f"{launched.url}/v1/chat/completions", json=SING, headers=CALLER) as song,
    ):
        lines = song.iter_lines()
        assert next(lines) == "data: la"
        launched.process.send_signal(signal.SIGTERM)
        assert "data: [DONE]" in list(lines)
        assert launched.ended() == 0


def test_an_engine_that_does_not_drain_is_killed_in_time(tmp_path: Path) -> None:
    with Launched(tmp_path, "--drain-within", "0.2", faults="stubborn").ready() as launched:
        launched.process.send_signal(signal.SIGTERM)
        assert launched.ended() == 128 + signal.SIGKILL
        assert "the engine is killed: still busy after 0.2 s" in launched.err


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with Launched(tmp_path, faults="stubborn").ready() as launched:
        launched.process.send_signal(signal.SIGTERM)
        wait_for(lambda: "stubborn: SIGTERM" in launched.err, "the engine to be told to end", PATIENCE)
        launched.process.send_signal(signal.SIGINT)
        assert launched.ended() == 128 + signal.SIGKILL
        assert "told twice" in launched.err


def test_a_signal_before_it_is_ready_ends_the_engine(tmp_path: Path) -> None:
    with Launched(tmp_path, faults="never") as launched:
        wait_for(lambda: "server_args" in launched.err, "the engine to start", PATIENCE)
        launched.process.send_signal(signal.SIGTERM)
        assert launched.ended() in {0, 128 + signal.SIGTERM}
        assert not launched.out


def test_an_engine_that_dies_before_it_is_ready_tells_its_status_and_its_last_lines(tmp_path: Path) -> None:
    with Launched(tmp_path, faults="die") as launched:
        assert launched.ended() == 7
        said = launched.err[launched.err.index("launch: ") :]
        assert "the engine ended with status 7 before it was ready" in said
        assert "CUDA out of memory" in said
        assert KEY not in said
        assert not launched.out


def test_an_engine_that_dies_later_ends_the_launch_although_its_children_live(tmp_path: Path) -> None:
    with Launched(tmp_path, faults="leave-child").ready() as launched:
        os.kill(launched.ready_line["engine_pid"], signal.SIGKILL)
        assert launched.ended() == 128 + signal.SIGKILL
        assert f"the engine ended by itself with status {128 + signal.SIGKILL}" in launched.err


def test_an_engine_that_is_not_ready_in_time_is_ended(tmp_path: Path) -> None:
    with Launched(tmp_path, "--ready-within", "1", faults="never") as launched:
        assert launched.ended() == 1
        assert "was not ready after 1 s (--ready-within)" in launched.err
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{launched.url}/ready")


def test_an_engine_that_cannot_answer_is_not_called_ready(tmp_path: Path) -> None:
    with Launched(tmp_path, faults="mute") as launched:
        assert launched.ended() == 1
        assert "the engine is up and cannot answer: /v1/chat/completions says 500" in launched.err
        assert "no kernel image is available" in launched.err
        assert not launched.out


def say(*words: str, **variables: str) -> tuple[int, str]:
    """The status and the complaint of a launch that cannot start."""
    ran = subprocess.run(
        [sys.executable, LAUNCH, *words],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return ran.returncode, ran.stderr


def test_a_taken_port_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, said = say("fake", "--models", str(rows(tmp_path)), "--port", str(port))
    assert (status, said) == (
        2,
        f"launch: 127.0.0.1:{port} cannot be used: Address already in use. Choose another with --port.\n",
    )


def test_an_unknown_model_comes_with_the_nearest_name() -> None:
    status, said = say("qwen3-8")
    assert status == 2
    assert "no model 'qwen3-8'. Did you mean 'qwen3-8b'?" in said


def test_a_key_on_the_command_line_is_refused(tmp_path: Path) -> None:
    status, said = say("fake", "--models", str(rows(tmp_path)), "--", "--api-key=secret")
    assert status == 2
    assert "set PENSTOCK_ENGINE_API_KEY instead" in said


class Diary(companion.Companion):
    """Notes when it is called, and whether the engine answers at that moment."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, bool]] = []
        self.url = ""

    async def joined(self, model: catalogue.Model, url: str) -> None:
        self.url = url
        await self._note(f"joined {model.name}")
        os.kill(os.getpid(), signal.SIGTERM)

    async def leaving(self) -> None:
        await self._note("leaving")
        raise ConnectionError("the gateway is away")

    async def left(self) -> None:
        await self._note("left")

    async def _note(self, what: str) -> None:
        async with httpx.AsyncClient() as client:
            try:
                alive = (await client.get(f"{self.url}/ready")).status_code == 200
            except httpx.TransportError:
                alive = False
        self.entries.append((what, alive))


async def test_the_gateway_is_told_before_the_engine_is(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = catalogue.find("fake", rows(tmp_path))
    options = launch.Options(model, "127.0.0.1", free_port(), PATIENCE, PATIENCE, ())
    diary = Diary()
    status = await asyncio.wait_for(launch.run(options, os.environ, diary), PATIENCE)
    assert status == 0
    assert diary.entries == [("joined fake", True), ("leaving", True), ("left", False)]
    assert "the gateway could not be told that the engine drains: ConnectionError" in capfd.readouterr().err
