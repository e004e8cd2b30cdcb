"""A server under a real limit of memory: its caches shrink, its callers are told to wait, and it lives."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.e2e.server import SIMULATED, Server, chat

MIB = 1024 * 1024
LIMIT = 320 * MIB
CONFIG = (
    SIMULATED
    + """\
logging: {level: WARNING}
caching: {backend: memory, response_cache: {max_size_mb: 4000, ttl: 3600, compression: false}}
memory: {max_usage_percent: 85, gc_threshold_percent: 70}
"""
)
ROOTS = (
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
    (Path("/sys/fs/cgroup"), "memory.max"),
)


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of the kernel's that may have so much memory."""
    for root, limit in ROOTS:
        group = root / f"penstock-{uuid.uuid4().hex[:8]}"
        try:
            group.mkdir()
            (group / limit).write_text(str(LIMIT))
        except OSError:
            if group.exists():
                group.rmdir()
            continue
        yield group
        end = time.monotonic() + 10
        while True:
            try:
                group.rmdir()
                return
            except OSError:  # its last process is not quite gone
                assert time.monotonic() < end
                time.sleep(0.02)
    pytest.skip("no control group with a limit of memory can be made here: run as root, with cgroups mounted writable")


class Confined(Server):
    """A server in a control group."""

    def __init__(self, group: Path, *arguments: Any) -> None:
        self.group = group
        super().__init__(*arguments)

    def _start(self, arguments: list[str], environment: dict[str, str]) -> Any:
        enter = f"import os, sys; open({str(self.group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()));"
        enter += "os.execv(sys.executable, [sys.executable, '-m', 'penstock', *sys.argv[1:]])"
        with open(self.folder / "out.txt", "ab") as out, open(self.folder / "err.txt", "ab") as err:
            command = [sys.executable, "-c", enter, *arguments]
            return subprocess.Popen(command, cwd=self.folder, env=environment, stdout=out, stderr=err)


def counted(server: Server, name: str) -> float:
    with server.client() as client:
        text = client.get("/metrics").text
    return sum(map(float, re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)))


@pytest.mark.timeout(180)
def test_caches_shrink_under_a_real_limit_and_the_server_lives(group: Path, tmp_path: Path) -> None:
    random = Random(7)
    statuses = []
    with Confined(group, tmp_path, CONFIG) as server, server.client() as client:
        for number in range(350):  # more than may be kept
            text = f"{number} {random.randbytes(500_000).hex()}"
            answer = client.post("/v1/chat/completions", json=chat(text, temperature=0, max_tokens=10**6))
            statuses.append(answer.status_code)
            assert answer.status_code in (200, 503), answer.text
        assert server.process.poll() is None
        assert counted(server, "penstock_cache_evicted_total") > 0
        assert counted(server, "penstock_memory_cleanings_total") > 0
        assert counted(server, "penstock_memory_used_percent") < 100
        assert statuses.count(200) > 250, "caches shrink before requests are refused"
        assert client.post("/v1/chat/completions", json=chat("still there")).status_code == 200
    killed = (group / "memory.oom_control", group / "memory.events")
    told = next(path.read_text() for path in killed if path.exists())
    assert re.search(r"oom_kill 0", told), told
