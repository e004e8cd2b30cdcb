"""`gpu_workers/launch.py` with the real engine: SGLang knows every flag of every model, and a launch lives well."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from catalogue import ADMIN_KEY, CALLER_KEY, command, read
from tests.e2e.server import ROOT, free_port, wait_for
from tests.engine.engine import PATIENCE, SECONDS_TO_START

LAUNCH = ROOT / "gpu_workers" / "launch.py"
INSTALL = ROOT / "gpu_workers" / "cpu" / "install.sh"
KEY, ADMIN = "canary-caller-key", "canary-admin-key"
CALLER = {"authorization": f"Bearer {KEY}"}

PARSE = """
import argparse, json, sys
from sglang.srt.server_args import ServerArgs
parser = argparse.ArgumentParser(allow_abbrev=False)
ServerArgs.add_cli_args(parser)
for words in json.load(sys.stdin):
    parser.parse_args(words)
"""


def test_sglang_understands_every_flag_of_every_model() -> None:
    engine = subprocess.run([INSTALL], capture_output=True, text=True, check=True, timeout=SECONDS_TO_START).stdout
    lines = [command(model, "127.0.0.1", 30000) for model in read().values() if not model.engine]
    snapshot = ["--model-path", "x", "--enable-memory-saver", "--enable-weights-cpu-backup"]
    parsed = subprocess.run(
        [f"{engine.strip()}/bin/python", "-W", "ignore", "-c", PARSE],
        input=json.dumps([*(line[3:] for line in lines), snapshot]),
        env={**os.environ, "SGLANG_USE_CPU_ENGINE": "1", "PYTHONPATH": str(ROOT / "gpu_workers" / "cpu" / "stand_ins")},
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        check=False,
    )
    assert parsed.returncode == 0, parsed.stderr
    assert len(lines) > 2


class Launched:
    """A launch of the tiny model."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self.out, self._err = folder / "out", folder / "err"
        with open(self.out, "wb") as out, open(self._err, "wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, LAUNCH, "tiny", "--port", str(port), *flags],
                env={**os.environ, CALLER_KEY: KEY, ADMIN_KEY: ADMIN},
                stdout=out,
                stderr=err,
            )

    @property
    def err(self) -> str:
        """What the launcher and the engine said."""
        return self._err.read_text(encoding="utf-8", errors="replace")

    def ready(self) -> Launched:
        """The launch, once it says that it is ready."""
        wait_for(self._said_ready, "the launch to be ready", SECONDS_TO_START)
        return self

    def _said_ready(self) -> bool:
        assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.err[-4000:]}"
        return self.out.read_text(encoding="utf-8").endswith("\n")

    def end(self) -> None:
        """End it and its engine, whatever they do."""
        if self.process.poll() is None:
            for _ in range(2):
                self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    launch = Launched(tmp_path_factory.mktemp("launch"))
    try:
        yield launch.ready()
    finally:
        launch.end()


def test_it_is_ready_and_answers_only_who_has_the_key(launched: Launched) -> None:
    line = json.loads(launched.out.read_text(encoding="utf-8"))
    assert (line["event"], line["model"], line["url"]) == ("ready", "tiny", launched.url)
    asked = {"model": "tiny", "messages": [{"role": "user", "content": "say kilo"}], "temperature": 0}
    refused = httpx.post(f"{launched.url}/v1/chat/completions", json=asked, timeout=PATIENCE)
    assert refused.status_code == 401
    answered = httpx.post(f"{launched.url}/v1/chat/completions", json=asked, headers=CALLER, timeout=PATIENCE).json()
    assert answered["choices"][0]["message"]["content"] == "kilo"
    assert answered["usage"]["prompt_tokens_details"] is not None
    again = httpx.get(f"{launched.url}/v1/loads", headers=CALLER, timeout=PATIENCE).json()
    assert again["loads"][0]["max_running_requests"] == 4


def test_the_keys_are_in_no_process_list_and_no_log(launched: Launched) -> None:
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "sglang::" in processes
    for place in (processes, launched.err, launched.out.read_text(encoding="utf-8")):
        assert KEY not in place
        assert ADMIN not in place
    assert "'api_key': '***', 'admin_api_key': '***'" in launched.err


def test_only_the_administrator_may_abort_what_others_do(launched: Launched) -> None:
    for key, status in ((KEY, 401), (ADMIN, 200)):
        headers = {"authorization": f"Bearer {key}"}
        asked = httpx.post(f"{launched.url}/flush_cache", headers=headers, timeout=PATIENCE)
        assert asked.status_code == status, asked.text


def test_a_signal_lets_the_song_end_and_the_status_is_the_engine_s(launched: Launched) -> None:
    song = {"model": "tiny", "messages": [{"role": "user", "content": "sing"}], "max_tokens": 200, "stream": True}
    with httpx.stream(
        "POST", f"{launched.url}/v1/chat/completions", json=song, headers=CALLER, timeout=PATIENCE
    ) as response:
        lines = response.iter_lines()
        while '"content":" la"' not in next(lines):
            pass
        launched.process.send_signal(signal.SIGTERM)
        payloads = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert payloads[-1] == "[DONE]"
    assert json.loads(payloads[-2])["choices"][0]["finish_reason"] == "length"
    assert launched.process.wait(PATIENCE) == 0


def test_an_engine_that_cannot_start_says_why(tmp_path: Path) -> None:
    flags = shlex.split("-- --attention-backend no-such-backend")
    launch = Launched(tmp_path, *flags)
    try:
        assert launch.process.wait(SECONDS_TO_START) == 2
        said = launch.err[launch.err.index("launch: the engine ended with status 2 before it was ready") :]
        assert "invalid choice: 'no-such-backend'" in said
        assert not launch.out.read_text(encoding="utf-8")
    finally:
        launch.end()
