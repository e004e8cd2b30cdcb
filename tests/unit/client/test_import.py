"""Who imports the client does not pay for a server."""

from __future__ import annotations

import subprocess
import sys

SERVERS = {"fastapi", "starlette", "uvicorn", "pydantic", "pydantic_core", "aiodynamo", "mangum", "prometheus_client"}


def test_the_client_brings_no_server_along() -> None:
    asked = "import sys, penstock.client; print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", asked],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    brought = set(ran.stdout.split())
    assert "penstock.client" in brought
    assert not SERVERS & brought
    assert not {name for name in brought if name.startswith(("penstock.core", "penstock.dialects", "penstock.stores"))}
