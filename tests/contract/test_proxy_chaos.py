"""Chaos as the proxy's document has it, over HTTP on both stores."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from tests.contract.conftest import Serve
from tests.e2e.server import Server

SECTION = """
chaos_engineering:
  enabled: true
  seed: 11
  faults:
    - type: "delay"
      severity: "medium"
      probability: 0.1
      duration_ms: 500
    - type: "error"
      severity: "low"
      probability: 0.05
      error_code: 503
      error_message: "Simulated provider error"
"""
CONFIG = """\
limits: {enabled: false}
circuit_breaker: {failure_threshold: 1000}
providers:
  - {name: first, type: simulated, models: [echo], options: {ttft: 0, tokens_per_second: 0}}
  - {name: second, type: simulated, models: [echo], options: {ttft: 0, tokens_per_second: 0}, priority: 2}
"""
KEY = {"authorization": "Bearer test-key-123"}

pytestmark = pytest.mark.timeout(180)


def ask(server: Server, **fields: Any) -> httpx.Response:
    body = {"model": "echo", "messages": [{"role": "user", "content": "hello"}], **fields}
    return httpx.post(f"{server.url}/v1/chat/completions", headers=KEY, json=body, verify=False)


def often(section: str) -> str:
    """The document's section, with faults in every other call."""
    return re.sub(r"probability: [\d.]+", "probability: 0.5", section).replace("500", "5")


@pytest.mark.row("P11")
def test_delays_and_errors_by_probability_harm_no_caller_who_has_another_provider(serve: Serve) -> None:
    server = serve(CONFIG + often(SECTION))
    answers = [ask(server, stream=number % 2 == 0) for number in range(40)]
    good = [answer for answer in answers if answer.status_code == 200]
    told = " ".join(answer.headers.get("x-penstock-chaos", "") for answer in answers)
    assert "delay;severity=medium" in told
    assert "error;severity=low" in told
    assert len(good) > 20, "both providers fail a quarter of the calls"
    assert all("x-penstock-failed" in a.headers for a in good if a.headers["x-penstock-provider"] == "second")
    assert all(answer.json()["error"]["code"] == "provider_unavailable" for answer in answers if answer not in good)
    counted = httpx.get(f"{server.url}/metrics", headers=KEY, verify=False).text
    assert 'penstock_chaos_faults_total{provider="first",severity="low",type="error"}' in counted


@pytest.mark.row("P11")
@pytest.mark.parametrize("kind", ["cut_stream", "malformed_frame"])
def test_a_stream_that_breaks_ends_with_a_typed_error_and_not_with_silence(serve: Serve, kind: str) -> None:
    faults = f"\nchaos_engineering:\n  enabled: true\n  faults: [{{type: {kind}, probability: 1}}]\n"
    server = serve(CONFIG.replace("tokens_per_second: 0", "tokens_per_second: 200") + faults)
    for _ in range(4):
        answer = ask(server, stream=True)
        assert f"{kind};severity=medium" in answer.headers["x-penstock-chaos"]
        if answer.status_code == 200:
            assert '"error"' in answer.text
            assert "[DONE]" not in answer.text


@pytest.mark.row("P11")
def test_with_the_documents_own_section_chaos_is_off(serve: Serve) -> None:
    server = serve(CONFIG + SECTION.replace("enabled: true", "enabled: false").replace("  seed: 11\n", ""))
    assert not any("x-penstock-chaos" in ask(server).headers for _ in range(20))
