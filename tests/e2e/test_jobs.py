"""Jobs and the death of the server that runs them: a person kills it with -9, and another one ends them all."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from penstock.core.jobs.runner import LEASE
from tests.e2e.server import ROOT, SIMULATED, Server, chat, wait_for

JOBS = 20
LATER = f"""\
import time
now, nanos = time.time, time.time_ns
time.time = lambda: now() + {LEASE}
time.time_ns = lambda: nanos() + {LEASE:.0f} * 10**9
"""
"""What Python runs first where everything happens half a minute later."""
SLOW = SIMULATED.replace("models: [echo]", "models: [echo], options: {ttft: 600}")
FAST = SIMULATED.replace("models: [echo]", "models: [echo], options: {ttft: 0}")


def answers(server: Server, paths: list[str]) -> list[str]:
    """What the jobs that have ended say."""
    with server.client() as client:
        polled = [client.get(path) for path in paths]
    return [answer.json()["choices"][0]["message"]["content"] for answer in polled if answer.status_code == 200]


@pytest.mark.timeout(300)
def test_jobs_of_a_server_that_is_killed_are_ended_by_another_once(tmp_path: Path) -> None:
    with Server(tmp_path, SLOW) as first:
        with first.client() as client:
            submitted = [
                client.post("/v1/chat/completions", json=chat(f"job {number}"), headers={"prefer": "respond-async"})
                for number in range(JOBS)
            ]
            assert {answer.status_code for answer in submitted} == {202}
            paths = [answer.headers["location"] for answer in submitted]
            wait_for(lambda: processing(first, paths) == 8, "as many jobs as may run at once")
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
    assert first.outcomes() == []
    later = tmp_path / "later"
    later.mkdir()
    (later / "sitecustomize.py").write_text(LATER, encoding="utf-8")
    with Server(tmp_path, FAST, PYTHONPATH=f"{later}{os.pathsep}{ROOT / 'functions'}") as second:
        wait_for(lambda: len(answers(second, paths)) == JOBS, "all jobs to end", 120.0)
        assert answers(second, paths) == [f"[simulated] job {number}" for number in range(JOBS)]
    charged = [outcome["request_id"] for outcome in second.outcomes()]
    assert sorted(charged) == sorted(f"{path.rpartition('/')[2]}.0" for path in paths)


def processing(server: Server, paths: list[str]) -> int:
    """How many of the jobs are being run."""
    with server.client() as client:
        return sum(client.get(path).json()["status"] == "processing" for path in paths)
