"""The container's recipe, read without a container engine: what it copies is there, and what it starts would start."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.gpu_workers.launched import PATIENCE, WORKERS

TEXT = (WORKERS / "container" / "Dockerfile").read_text(encoding="utf-8")
LINES = [line for line in re.sub(r"\\\n\s*", "", TEXT).splitlines() if line and not line.startswith("#")]
STEPS = [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in LINES]


def only(instruction: str) -> str:
    """The one use of an instruction."""
    (found,) = [rest for name, rest in STEPS if name == instruction]
    return found


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    """The folder that the image has its files in."""
    *sources, _ = only("COPY").split()
    for source in sources:
        shutil.copy(WORKERS / source, tmp_path)
    return tmp_path


def test_it_is_built_on_the_engine_s_own_image_of_the_version_that_is_tested() -> None:
    image, tag = only("FROM").split(":")
    locked = re.search(r"^sglang==([\d.]+)", (WORKERS / "cpu" / "engine.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert locked
    assert (image, tag) == ("lmsysorg/sglang", f"v{locked[1]}-runtime")


def test_what_it_starts_needs_nothing_but_what_it_copies(inside: Path) -> None:
    python, script, *arguments = json.loads(only("ENTRYPOINT"))
    assert (python, Path(script).parent) == ("python3", Path(only("COPY").split()[-1]))
    words = [*arguments, *json.loads(only("CMD")), "--print-command"]
    ran = subprocess.run(
        [sys.executable, inside / Path(script).name, *words],
        cwd=inside,
        env={},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    flags = shlex.split(ran.stdout)
    assert flags[flags.index("--port") + 1] == only("EXPOSE")
    assert flags[flags.index("--host") + 1] == "0.0.0.0"


def test_it_runs_as_nobody_in_particular() -> None:
    user, group = only("USER").split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert f"--uid {user}" in only("RUN")
    order = [name for name, _ in STEPS]
    assert order.index("RUN") < order.index("USER") < order.index("ENTRYPOINT")


def test_its_user_may_write_to_its_volumes_and_they_are_where_the_engine_looks() -> None:
    volumes = json.loads(only("VOLUME"))
    assert f"chown worker:worker {' '.join(volumes)}" in only("RUN")
    kept = dict(pair.split("=") for pair in only("ENV").split())
    assert [kept["HF_HOME"], kept["SGLANG_CACHE_DIR"]] == volumes


def test_it_is_told_to_end_by_the_signal_that_drains() -> None:
    assert only("STOPSIGNAL") == "SIGTERM"


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)], ids=["ready", "draining"])
def test_it_is_healthy_while_the_engine_is_ready(status: int, healthy: bool) -> None:
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    options, check = only("HEALTHCHECK").split("CMD ")
    _, dash_c, program = json.loads(check)
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.handle_request).start()
        here = program.replace(f":{only('EXPOSE')}/", f":{server.server_port}/")
        ran = subprocess.run([sys.executable, dash_c, here], capture_output=True, timeout=PATIENCE, check=False)
    assert (ran.returncode == 0) is healthy
    assert asked == ["/ready"]
    assert "--start-period" in options
