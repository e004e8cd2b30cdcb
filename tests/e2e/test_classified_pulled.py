"""A job of an alias is handed to workers that ask for jobs of the model that it stands for."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.engine import Engine
from tests.e2e.fleet import CONFIG, agent, states
from tests.e2e.server import Server, wait_for
from tests.e2e.test_pulled import LATER, SECRETS, answer

SECTION = """
classification:
  aliases:
    auto: {tiers: {small: [llama], large: [nowhere]}}
"""
SECRET = "Prove it step by step. My card is 4539 1488 0343 6467."


def test_a_sensitive_job_of_an_alias_waits_for_a_worker_of_ours_and_is_answered_by_it(tmp_path: Path) -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": SECRET}]}
    with Engine() as engine, Server(tmp_path, CONFIG + SECTION, **SECRETS) as server:
        engine.ready.set()
        with agent(server, engine.url, "gpu-1", pull=True):
            wait_for(lambda: states(server) == {"gpu-1": "ready"}, "the worker")
            with server.client() as client:
                accepted = client.post("/v1/chat/completions", json=body, headers=LATER)
            assert accepted.status_code == 202, accepted.text
            assert '"llama";alias="auto";tier="small"' in accepted.headers["x-penstock-classified"]
            told = wait_for(lambda: (a := answer(server, accepted.headers["location"])).status_code != 202 and a, "it")
    assert told.status_code == 200, told.text
    assert told.json()["model"] == "llama"
