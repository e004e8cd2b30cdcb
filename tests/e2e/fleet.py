"""A fleet beside a gateway: its secret, its agents, and what the gateway says of its workers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.e2e.server import ROOT, Server, environment

AGENT = ROOT / "gpu_workers" / "agent.py"
SECRET = "canary-fleet-secret"
CONFIG = """
auth: {api_keys: [test-key]}
limits: {enabled: false}
providers: []
workers: {api_key_env: PENSTOCK_ENGINE_API_KEY}
"""


@contextmanager
def agent(
    server: Server, engine: str, name: str, key: str = "", *, pull: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """The agent of the engine at this address, as it is started beside one; perhaps to ``pull`` jobs."""
    command = [sys.executable, str(AGENT), "--gateway", server.url, "--engine", engine, "--id", name]
    command += ["--pull"] if pull else []
    with open(server.folder / f"{name}.txt", "ab") as log:
        process = subprocess.Popen(
            command, env=environment(PENSTOCK_FLEET_SECRET=SECRET, PENSTOCK_ENGINE_API_KEY=key), stderr=log
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def workers(server: Server) -> dict[str, dict[str, Any]]:
    """The workers that the gateway knows, by id."""
    with server.client() as client:
        return {worker["id"]: worker for worker in client.get("/v1/workers").json()["data"]}


def states(server: Server) -> dict[str, str]:
    """The state of each worker."""
    return {name: worker["state"] for name, worker in workers(server).items()}


def registered_at(server: Server, name: str) -> float:
    """When a worker was registered last, 0 if never: a new agent does it anew."""
    return float(workers(server).get(name, {}).get("registered_at", 0))
