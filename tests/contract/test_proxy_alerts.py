"""Alerts as the proxy's document has them, over HTTP on both stores: made, fired, told once, acknowledged, resolved."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import httpx
import pytest

from tests.contract.conftest import Serve
from tests.contract.examples import DOCUMENTS, example
from tests.e2e.server import Server, wait_for
from tests.e2e.slack import Slack, slack

KEY = {"authorization": "Bearer test-key-123"}
QUICK = """\
limits: {enabled: false}
circuit_breaker: {failure_threshold: 1000}
providers:
  - {name: openai, type: simulated, models: [echo], options: {ttft: 0, tokens_per_second: 0}}
"""

pytestmark = pytest.mark.timeout(180)


def telling(receiver: Slack, **more: Any) -> str:
    """A configuration that looks every second and posts to the receiver."""
    section = {"interval": 1, "channels": {"webhook": receiver.channel}, **more}
    return f"{QUICK}alerts: {json.dumps(section)}\n"


def call(server: Server, method: str, path: str, body: Any = None) -> httpx.Response:
    return httpx.request(method, server.url + path, headers=KEY, json=body, verify=False, timeout=60)


def ask(server: Server, **simulate: Any) -> int:
    body = {"model": "echo", "messages": [{"role": "user", "content": "hello"}], "simulate": simulate}
    return call(server, "POST", "/v1/chat/completions", body).status_code


def alerts(server: Server, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = call(server, "GET", f"/v1/alerts{query}").json()["data"]
    return found


def rule(**differs: Any) -> dict[str, Any]:
    """The document's rule, with a threshold of its own."""
    body: dict[str, Any] = json.loads(example("proxy", "### Create Alert Rule"))
    return body | {"channels": ["log"], "cooldown_minutes": 0} | differs


@pytest.fixture
def server(serve: Serve) -> Server:
    return serve(QUICK)


@pytest.mark.row("P6")
def test_the_documents_rule_is_made_read_changed_and_removed(server: Server) -> None:
    body = json.loads(example("proxy", "### Create Alert Rule"))
    made = call(server, "POST", "/v1/rules", body)
    assert made.status_code == 201, made.text
    assert {name: made.json()[name] for name in body} == body
    assert "email" in made.json()["warnings"][0], "nobody has configured mail here"
    assert call(server, "GET", "/v1/rules/high_error_rate").json() == made.json()
    assert call(server, "GET", "/v1/rules").json()["data"] == [made.json()]
    changed = call(server, "PUT", "/v1/rules/high_error_rate", {"threshold": 0.5, "severity": "critical"})
    assert (changed.json()["threshold"], changed.json()["severity"]) == (0.5, "critical")
    assert changed.json()["metric_path"] == body["metric_path"]
    assert call(server, "PUT", "/v1/rules/high_error_rate", body).json()["threshold"] == 0.05
    assert call(server, "POST", "/v1/rules", body).json()["error"]["code"] == "alert_conflict"
    assert call(server, "DELETE", "/v1/rules/high_error_rate").json()["deleted"] is True
    for method in ("GET", "PUT", "DELETE"):
        gone = call(server, method, "/v1/rules/high_error_rate", {} if method == "PUT" else None)
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.row("P6")
@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not on PATH")
def test_the_documents_curl_commands_run(server: Server) -> None:
    commands = (DOCUMENTS / "proxy.md").read_text(encoding="utf-8")
    for title, wanted in (("# Create alert rule", "high_error_rate"), ("# Get active alerts", "list")):
        command = commands[commands.index(title) :].partition("\n\n")[0].partition("\n```")[0]
        command = command.replace("http://localhost:8000", server.url).replace("your-api-key", "test-key-123")
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=60)
        assert wanted in json.loads(done.stdout).values(), done.stdout


@pytest.mark.row("P6")
def test_an_alert_fires_is_told_once_acknowledged_and_resolved(serve: Serve) -> None:
    with slack() as receiver:
        server = serve(telling(receiver))
        made = call(server, "POST", "/v1/rules", rule(channels=["log", "webhook"], window_minutes=0.1, threshold=0.4))
        assert made.status_code == 201, made.text
        assert call(server, "GET", "/health").json()["alerts"] == {"active": 0, "critical": 0, "warning": 0}
        wait_for(lambda: ask(server, error=503) and alerts(server), "the alert", 60)
        wait_for(lambda: receiver.told("high_error_rate"), "its message")
        (alert,) = alerts(server, "?severity=warning&status=active")
        assert (alert["rule"], alert["status"], alert["severity"]) == ("high_error_rate", "firing", "warning")
        assert alert["value"] > 0.4
        assert alerts(server, "?severity=critical") == alerts(server, "?status=acknowledged") == []
        wait_for(lambda: call(server, "GET", "/health").json()["alerts"]["warning"] == 1, "its count in /health")
        seen = call(server, "POST", f"/v1/alerts/{alert['id']}/acknowledge")
        assert (seen.status_code, seen.json()["status"]) == (200, "acknowledged")
        assert call(server, "POST", f"/v1/alerts/{alert['id']}/acknowledge").json() == seen.json()
        assert [each["id"] for each in alerts(server, "?status=acknowledged")] == [alert["id"]]
        wait_for(lambda: ask(server) and not alerts(server), "its end", 60)
        (over,) = alerts(server, "?status=resolved")
        assert (over["id"], over["resolved_value"] <= 0.4) == (alert["id"], True)
        wait_for(lambda: len(receiver.told("high_error_rate")) == 2, "the message of its end")
        assert call(server, "POST", f"/v1/alerts/{alert['id']}/acknowledge").status_code == 409
        assert receiver.told("high_error_rate") == ["alert.firing", "alert.resolved"]
        assert server.err.count("[WARNING] high_error_rate") == server.err.count("[RESOLVED] high_error_rate") == 1


@pytest.mark.row("P6")
@pytest.mark.parametrize("condition", [">", ">=", "<", "<=", "==", "!="])
def test_rules_of_the_configuration_know_every_condition(gateway: Server, condition: str) -> None:
    body = rule(name="x", condition=condition, metric_path="system.memory_percent", threshold=101, enabled=False)
    assert call(gateway, "POST", "/v1/rules", body).json()["condition"] == condition
    assert call(gateway, "DELETE", "/v1/rules/x").status_code == 200


@pytest.mark.row("P6")
def test_a_rule_of_the_configuration_fires_and_is_not_changed_over_the_api(serve: Serve) -> None:
    with slack() as receiver:
        kept = rule(name="any", metric_path="summary.total_requests", condition=">=", threshold=0, severity="critical")
        server = serve(telling(receiver, rules=[kept | {"channels": ["webhook"]}]))
        wait_for(lambda: alerts(server), "the alert", 60)
        wait_for(lambda: call(server, "GET", "/health").json()["alerts"]["critical"] == 1, "its count in /health")
        (listed,) = call(server, "GET", "/v1/rules").json()["data"]
        assert (listed["source"], listed["state"]) == ("config", "firing")
        for method, path, body in (
            ("PUT", "/v1/rules/any", {"threshold": 5}),
            ("DELETE", "/v1/rules/any", None),
            ("POST", "/v1/rules", kept | {"channels": ["log"]}),
        ):
            refused = call(server, method, path, body)
            assert (refused.status_code, refused.json()["error"]["code"]) == (409, "alert_conflict")


@pytest.mark.row("P6")
@pytest.mark.parametrize(
    ("wrong", "param", "words"),
    [
        ({"metric_path": "providers.openai.eror_rate"}, "metric_path", "did you mean providers.openai.error_rate?"),
        ({"channels": ["emial"]}, "channels", "did you mean 'email'?"),
        ({"channels": []}, "channels", "at least 1"),
        ({"condition": "=>"}, "condition", "'!='"),
        ({"severity": "fatal"}, "severity", "'critical'"),
        ({"threshold": "high"}, "threshold", "number"),
        ({"name": "no spaces"}, "name", "letters"),
        ({"cooldown_minutes": -1}, "cooldown_minutes", "10080"),
        ({"colour": "red"}, "colour", "not permitted"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_with_its_field(
    gateway: Server, wrong: dict[str, Any], param: str, words: str
) -> None:
    answer = call(gateway, "POST", "/v1/rules", rule(name="wrong") | wrong)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"].split(".")[0] == param
    assert words in error["message"]
    assert call(gateway, "GET", "/v1/rules/wrong").status_code == 404


@pytest.mark.row("P6")
def test_a_rules_channels_are_tried_out_on_demand(serve: Serve) -> None:
    with slack() as receiver:
        server = serve(telling(receiver))
        call(server, "POST", "/v1/rules", rule(name="tried", channels=["log", "webhook", "email"]))
        answer = call(server, "POST", "/v1/rules/tried/test")
        told = [(each["channel"], each["status"]) for each in answer.json()["notifications"]]
        assert told == [("log", "sent"), ("webhook", "sent"), ("email", "failed")]
        assert answer.json()["notifications"][2]["reason"] == "it is not configured here"
        assert receiver.told("tried") == ["alert.test"]
        assert receiver.received[0]["text"].startswith("[TEST] tried")
        assert alerts(server) == []
        assert call(server, "POST", "/v1/rules/nothing/test").status_code == 404


@pytest.mark.row("P6")
@pytest.mark.parametrize("query", ["?severity=fatal", "?status=open"])
def test_a_filter_that_there_is_not_is_refused(gateway: Server, query: str) -> None:
    assert call(gateway, "GET", f"/v1/alerts{query}").status_code == 400


@pytest.mark.row("P6")
def test_strangers_read_with_a_key_for_metrics_and_change_nothing_without_one_of_an_administrator(
    gateway: Server,
) -> None:
    outside = KEY | {"x-forwarded-for": "203.0.113.9"}
    read = httpx.get(f"{gateway.url}/v1/alerts", headers=outside, verify=False)
    assert read.status_code == 200, "keys of the configuration have the scope metrics"
    made = httpx.post(f"{gateway.url}/v1/rules", headers=outside, json=rule(), verify=False)
    assert (made.status_code, made.json()["error"]["code"]) == (403, "insufficient_permissions")
