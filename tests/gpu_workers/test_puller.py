"""What an agent makes of a job that it has taken, before its engine sees it, and when there is none."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from puller import Puller, Work
from tests.e2e.server import wait_for
from tests.ports import free_port


def job(**differs: Any) -> dict[str, Any]:
    """A job as a gateway hands it over."""
    plain: dict[str, Any] = {
        "id": "job_1",
        "receipt": "gpu-1/g1/1.0/ab",
        "path": "/v1/chat/completions",
        "seconds": 60.0,
    }
    return plain | {"body": {"model": "tiny", "max_tokens": 4096}, "bound": None} | differs


@pytest.mark.parametrize(
    ("window", "prompt", "most"), [(1024, 300, 724), (1024, 1000, 128), (0, 300, 4096), (100_000, 300, 4096)]
)
def test_a_bound_of_the_house_is_kept_within_the_models_context(window: int, prompt: int, most: int) -> None:
    work = Work(job(bound={"field": "max_tokens", "prompt": prompt}), "http://127.0.0.1:1", "", window)
    assert work.body["max_tokens"] == most


def test_a_callers_own_bound_is_the_callers() -> None:
    assert Work(job(), "http://127.0.0.1:1", "", 1024).body["max_tokens"] == 4096


def test_an_engine_that_is_not_there_is_told_as_such_and_one_that_is_stopped_before_it_began_as_stopped() -> None:
    engine = f"http://127.0.0.1:{free_port()}"
    told = Work(job(), engine, "", 0).result()
    assert (told["status"], told["trouble"], told["receipt"]) == (0, "unavailable", "gpu-1/g1/1.0/ab")
    assert "sent" not in told
    work = Work(job(), engine, "", 0)
    work.stop("stopped")
    told = work.result()
    assert (told["trouble"], told["sent"]) == ("stopped", work.body)


def test_jobs_that_were_on_their_way_when_the_agent_leaves_are_given_back() -> None:
    asked, leaves = threading.Event(), threading.Event()
    heard: list[tuple[str, dict[str, Any]]] = []

    def gateway(path: str, document: dict[str, Any], _: float) -> tuple[int, dict[str, Any]]:
        heard.append((path, document))
        asked.set()
        leaves.wait(10)
        return 200, {"data": [job()], "state": "ready"} if path == "/jobs/claim" else {}

    puller = Puller("http://127.0.0.1:1", "", gateway, 0)
    puller.start()
    assert not asked.wait(0.05), "an engine that is not ready takes nothing"
    puller.ready("g1", 3)
    assert asked.wait(10)
    puller.stop()
    assert puller.busy
    leaves.set()
    wait_for(lambda: not puller.busy, "all to be given back")
    assert [path for path, _ in heard] == ["/jobs/claim", "/jobs/release"]
    assert heard[0][1]["most"] == 3
    assert heard[1][1] == {"jobs": {"job_1": "gpu-1/g1/1.0/ab"}}
