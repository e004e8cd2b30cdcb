"""Proxy's and IIR's ``/metrics`` as their documents have it, over HTTP on both stores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from tests.contract.conftest import Serve
from tests.e2e.server import Server, wait_for

pytestmark = pytest.mark.timeout(180)
CONFIG = """\
limits: {enabled: false}
providers:
  - {name: openai, type: simulated, models: [gpt-4], options: {ttft: 0}}
  - {name: anthropic, type: simulated, models: [gpt-4], priority: 2, options: {ttft: 0}}
  - {name: grok, type: simulated, models: [grok-1], options: {ttft: 0}}
"""
DOCUMENTED = {
    *("total_requests", "successful_requests", "failed_requests", "success_rate", "avg_response_time", "total_tokens")
}
"""What the document shows of a provider."""
JSON = {"accept": "application/json"}


def ask(server: Server, **fields: Any) -> httpx.Response:
    body = {"model": "gpt-4", "messages": [{"role": "user", "content": "Hello, canary prompt!"}], **fields}
    with server.client("test-key-123") as client:
        return client.post("/v1/chat/completions", json=body)


def told(server: Server, query: str = "", **headers: str) -> Any:
    with server.client("test-key-123") as client:
        answer = client.get(f"/metrics{query}", headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json() if answer.headers["content-type"] == "application/json" else answer


def counted(server: Server, requests: int, query: str = "") -> Callable[[], Any]:
    """The document, once it tells of so many requests."""

    def look() -> Any:
        document = told(server, query, **JSON)
        return document if document["summary"]["total_requests"] == requests else None

    return look


def sample(text: str, name: str, **labels: str) -> float:
    """The value with exactly these labels."""
    samples = [sample for family in parse(text) for sample in family.samples]
    [value] = [each.value for each in samples if each.name == name and each.labels == labels]
    return value


@pytest.fixture
def server(serve: Serve) -> Server:
    return serve(CONFIG)


@pytest.mark.row("C4")
@pytest.mark.parametrize("query", ["", "?window=600"])
def test_json_has_the_documents_shape_and_numbers(server: Server, query: str) -> None:
    for _ in range(3):
        assert ask(server).status_code == 200
    assert ask(server, model="grok-1").status_code == 200
    document = wait_for(counted(server, 4, query), "four requests in the document")
    assert isinstance(document["timestamp"], int)
    assert set(document["providers"]) == {"openai", "anthropic", "grok"}
    for provider in document["providers"].values():
        assert DOCUMENTED | {"error_rate"} <= set(provider)
    openai = document["providers"]["openai"]
    assert (openai["total_requests"], openai["successful_requests"], openai["failed_requests"]) == (3, 3, 0)
    assert (openai["success_rate"], openai["error_rate"]) == (1.0, 0.0)
    assert openai["total_tokens"] > 0
    assert 0 < openai["avg_response_time"] < 60
    assert (
        document["summary"] | {"total_providers": 3, "total_requests": 4, "average_success_rate": 1.0}
        == (document["summary"])
    )


@pytest.mark.row("C4")
@pytest.mark.parametrize("query", ["", "?window=600"])
def test_a_provider_that_another_stood_in_for_has_failed(serve: Serve, query: str) -> None:
    server = serve(CONFIG.replace("ttft: 0", "ttft: 0, error: 503", 1))
    assert ask(server).json()["_proxy_info"]["provider"] == "anthropic"
    document = wait_for(counted(server, 1, query), "the request in the document")
    assert document["providers"]["anthropic"]["success_rate"] == 1.0
    openai = document["providers"]["openai"]
    assert (openai["total_requests"], openai["failed_requests"], openai["error_rate"]) == (1, 1, 1.0)


@pytest.mark.row("C4", "I12")
def test_text_is_prometheuss_and_names_neither_key_nor_prompt_nor_request(server: Server) -> None:
    answer = ask(server, stream=True)
    assert "[DONE]" in answer.text
    wait_for(counted(server, 1), "the request to be counted")
    for accept in ("*/*", "text/plain", "application/openmetrics-text; version=1.0.0, text/plain;q=0.5, */*;q=0.1"):
        text = told(server, accept=accept).text
        assert "penstock_requests_total" in text
        assert not [word for word in ("test-key-123", "canary", answer.headers["x-request-id"]) if word in text]
    text, place = told(server).text, {"provider": "openai", "model": "gpt-4"}
    assert sample(text, "penstock_attempts_total", **place, result="ok") == 1
    assert sample(text, "penstock_tokens_total", **place, direction="output") > 0
    assert sample(text, "penstock_request_duration_seconds_count", **place) == 1
    assert sample(text, "penstock_time_to_first_token_seconds_bucket", **place, le="+Inf") == 1
    with server.client("test-key-123") as client:
        plain = client.get("/metrics/prometheus", headers=JSON)
    assert plain.headers["content-type"].startswith("text/plain"), "always text"


@pytest.mark.row("C4")
@pytest.mark.parametrize("window", ["0", "-1", "soon", "1e99", "nan"])
def test_a_window_that_is_none_is_refused(server: Server, window: str) -> None:
    with server.client("test-key-123") as client:
        answer = client.get(f"/metrics?window={window}", headers=JSON)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "window"), answer.text
