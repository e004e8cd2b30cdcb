"""Keys over HTTP on a running server with two processes: what one is told, the other obeys."""

from __future__ import annotations

import time
from pathlib import Path

import httpx

from tests.e2e.server import Server, wait_for

WITHIN = 5.0


def test_a_revocation_in_one_process_is_obeyed_by_the_other_within_5_seconds(tmp_path: Path) -> None:
    with Server(tmp_path) as first, Server(tmp_path) as second:
        made = httpx.post(f"{first.url}/api/v1/apikeys", json={"description": "my service", "priority": 5}).json()
        holder = {"authorization": f"Bearer {made['api_key']}"}
        assert httpx.get(f"{second.url}/v1/models", headers=holder).status_code == 200
        assert httpx.delete(f"{first.url}/api/v1/apikeys/{made['id']}").json()["status"] == "revoked"
        revoked_at = time.monotonic()
        wait_for(
            lambda: httpx.get(f"{second.url}/v1/models", headers=holder).status_code == 401,
            "the other process to refuse the revoked key",
            seconds=WITHIN,
        )
        assert time.monotonic() - revoked_at < WITHIN
        acts = httpx.get(f"{second.url}/api/v1/audit").json()["data"]
        assert [act["action"] for act in acts] == ["revoke key", "create key", "create key"]
        assert acts[0]["actor"] == "address 127.0.0.1"
