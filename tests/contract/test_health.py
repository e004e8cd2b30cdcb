"""``/health`` as all documents have it at once, over HTTP on both stores."""

from __future__ import annotations

import datetime
import time
from typing import Any

import httpx
import pytest

from tests.contract.conftest import Serve
from tests.e2e.server import Server, wait_for

CONFIG = """\
health_check: {interval: 1, timeout: 1, unhealthy_after: 1}
providers:
  - {name: simulated, type: simulated, models: [echo]}
  - {name: gone, type: openai, base_url: "http://127.0.0.1:9/v1", api_key_env: K, models: [lost]}
  - {name: spare, type: simulated, models: [echo], enabled: false}
"""
SHOWN = {
    *("status", "health_score", "version", "timestamp", "timestamp_iso", "response_time", "router", "healthy_services"),
    *("backend", "model", "available_models", "model_loaded", "redis_connected", "providers", "system", "alerts"),
}

pytestmark = [pytest.mark.timeout(120), pytest.mark.row("C3")]


def health(server: Server, **headers: str) -> dict[str, Any]:
    answer = httpx.get(f"{server.url}/health", headers=headers, verify=False)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def test_it_shows_what_each_document_shows(serve: Serve) -> None:
    server = serve(CONFIG, K="sk-none")
    told = wait_for(lambda: told if (told := health(server))["status"] == "degraded" else None, "a provider to be down")
    assert told.keys() >= SHOWN
    assert abs(told["timestamp"] - time.time()) < 60
    assert datetime.datetime.fromisoformat(told["timestamp_iso"]).timestamp() == pytest.approx(told["timestamp"], abs=1)
    assert 0 <= told["response_time"] < 60
    assert (told["router"], told["healthy_services"], told["health_score"]) == ("running", "1/2", 50.0)
    assert (told["backend"], told["model"], told["model_loaded"]) == ("simulated", "echo", True)
    assert told["available_models"] == ["echo"]
    assert told["redis_connected"] is None
    assert told["providers"] == {"total": 3, "healthy": 1, "degraded": 0, "unhealthy": 1, "disabled": 1}
    assert told["system"].keys() == {"cpu_percent", "memory_percent", "memory_used_mb", "disk_percent"}
    assert told["alerts"] == {"active": 0, "critical": 0, "warning": 0}


def test_a_stranger_sees_little_and_needs_no_key(serve: Serve) -> None:
    strict = serve("auth: {trusted_networks: []}\nproviders: [{name: simulated, type: simulated, models: [echo]}]\n")
    assert health(strict) == {"status": "healthy", "version": health(strict)["version"]}
    open_to_all = serve(
        "auth: {mode: none, trusted_networks: []}\nproviders: [{name: s, type: simulated, models: [echo]}]\n"
    )
    assert health(open_to_all).keys() >= SHOWN
    inside = serve("providers: [{name: simulated, type: simulated, models: [echo]}]\n")
    assert health(inside).keys() >= SHOWN
    assert health(inside, **{"x-forwarded-for": "203.0.113.9"}).keys() == {"status", "version"}
