"""What the functions tell CloudWatch, and that its dashboard and alarms name nothing else."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter
from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider

from penstock import cloudwatch, telemetry
from penstock.schema.outcome import CACHE, FAILED, REFUSED, Failure, Outcome
from tests.functions import template
from tests.laws.stores.records import an_outcome

ALARMS = "infra/alarms.yaml"
THEIRS = {
    "AWS/SQS": {"ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage"},
    "AWS/Lambda": {"Errors", "ConcurrentExecutions"},
}
"""Metrics that AWS itself tells."""

Told = set[tuple[str, frozenset[str]]]


@pytest.fixture(autouse=True)
def the_log_as_it_was() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def lines(capfd: pytest.CaptureFixture[str], *outcomes: Outcome) -> list[dict[str, Any]]:
    """What is written of outcomes."""
    cloudwatch.Lines("penstock", {"engine", "first"}).tell(outcomes)
    return [json.loads(line) for line in capfd.readouterr().err.splitlines()]


def told(line: dict[str, Any]) -> Told:
    """The metrics in a line, each with its dimensions; CloudWatch needs all of them as fields of the line."""
    found = set()
    for directive in line["_aws"]["CloudWatchMetrics"]:
        assert directive["Namespace"] == "Penstock"
        for dimensions in directive["Dimensions"]:
            assert all(isinstance(line[name], str) for name in dimensions)
            for metric in directive["Metrics"]:
                assert all(isinstance(value, float) for value in line[metric["Name"]])
                found.add((metric["Name"], frozenset(dimensions)))
    return found


def everything(capfd: pytest.CaptureFixture[str]) -> Told:
    """Every metric that is ever told."""
    failures = (Failure("first/tiny", "upstream_timeout", 0.1),)
    return set().union(*map(told, lines(capfd, an_outcome(failures=failures, ttft=0.2, cost_nanos=1_500_000))))


def test_an_outcome_is_one_line_with_its_metrics_in_the_shape_of_powertools(capfd: pytest.CaptureFixture[str]) -> None:
    [line] = lines(capfd, an_outcome(ttft=0.2, cost_nanos=1_500_000))
    assert list(line)[:5] == ["level", "location", "message", "timestamp", "service"]
    assert (line["service"], line["provider"], line["request_id"][:4]) == ("penstock", "engine", "req_")
    assert (line["Requests"], line["FailedRequests"], line["Fallbacks"]) == ([1.0], [0.0], [0.0])
    assert (line["InputTokens"], line["OutputTokens"], line["Cost"]) == ([12.0], [30.0], [0.0015])
    assert (line["Attempts"], line["FailedAttempts"], line["AttemptDuration"]) == ([1.0], [0.0], [0.25])
    units = {metric["Name"]: metric["Unit"] for each in line["_aws"]["CloudWatchMetrics"] for metric in each["Metrics"]}
    assert units == cloudwatch.UNITS
    assert abs(line["_aws"]["Timestamp"] / 1000 - an_outcome().started_at) < 60


def test_an_attempt_that_failed_is_told_of_its_own_provider(capfd: pytest.CaptureFixture[str]) -> None:
    failures = (Failure("first/tiny", "upstream_timeout", 0.1), Failure("gpu-7/tiny", REFUSED, 0.05))
    first, second, whole = lines(capfd, an_outcome(failures=failures))
    assert (first["provider"], first["FailedAttempts"], first["AttemptDuration"]) == ("first", [1.0], [0.1])
    assert (second["provider"], second["FailedAttempts"]) == ("workers", [0.0]), "workers come and go: one name for all"
    assert (whole["provider"], whole["Fallbacks"], whole["FailedRequests"]) == ("engine", [2.0], [0.0])
    assert whole["AttemptDuration"] == [pytest.approx(0.1)]


def test_a_request_that_nobody_was_called_for_is_no_attempt(capfd: pytest.CaptureFixture[str]) -> None:
    unknown = an_outcome(deployment="", ended=FAILED, status=404)
    for line in lines(capfd, unknown, an_outcome(deployment=CACHE)):
        assert "Attempts" not in line
        assert line["Requests"] == [1.0]


def test_other_lines_have_their_shape_and_no_keys(capfd: pytest.CaptureFixture[str]) -> None:
    telemetry.configure("INFO", "json")
    cloudwatch.shape("penstock")
    try:
        raise ValueError("?api_key=sk-secret")
    except ValueError:
        logging.getLogger("penstock").exception("sent Bearer psk-secret", extra={"request_id": "req_1"})
    line = json.loads(capfd.readouterr().err)
    assert "secret" not in json.dumps(line)
    assert {"level", "location", "message", "timestamp", "service", "exception", "request_id"} <= set(line)
    assert (line["level"], line["service"]) == ("ERROR", "penstock")


def test_powertools_would_write_the_same(capfd: pytest.CaptureFixture[str]) -> None:
    [line] = lines(capfd, an_outcome(deployment="", ended=FAILED, status=404))
    [directive] = line["_aws"]["CloudWatchMetrics"]
    theirs = AmazonCloudWatchEMFProvider(namespace="Penstock", service="penstock")
    theirs.timestamp = line["_aws"]["Timestamp"]
    for metric in directive["Metrics"]:
        theirs.add_metric(metric["Name"], metric["Unit"], line[metric["Name"]][0])
    written = theirs.serialize_metric_set()
    assert written == {name: line[name] for name in written}
    record = logging.LogRecord("penstock", logging.WARNING, "", 7, "hello", (), None)
    ours = json.loads(cloudwatch.Shaped("penstock").format(record))
    formatted = json.loads(LambdaPowertoolsFormatter(utc=True, use_rfc3339=True, service="penstock").format(record))
    assert set(ours) == set(formatted)
    assert {**ours, "location": ""} == {**formatted, "location": ""}


def test_the_dashboard_and_the_alarms_name_only_what_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    ours = everything(capfd)
    named = [*dashboard(), *alarms()]
    assert len(named) > 20
    for namespace, name, dimensions in named:
        if namespace == "Penstock":
            assert (name, dimensions) in ours, f"{name} by {sorted(dimensions)} is told by nobody"
        else:
            assert name in THEIRS[namespace]
    assert {name for name, _ in ours} == {name for namespace, name, _ in named if namespace == "Penstock"}, "all shown"


def test_docs_metrics_md_lists_what_cloudwatch_is_told() -> None:
    page = (template.ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `([A-Z]\w+)` \|", page, re.MULTILINE))
    assert listed == set(cloudwatch.UNITS)


def test_functions_and_dashboard_have_the_same_name_for_the_service() -> None:
    shared = template.read()["Globals"]["Function"]["Environment"]["Variables"]
    given = template.resources("AWS::Serverless::Application")["Alarms"]["Parameters"]
    assert shared["POWERTOOLS_SERVICE_NAME"] == given["Service"]
    parameters = template.read(ALARMS)["Parameters"]
    assert set(given) == set(parameters)


def dashboard() -> Iterator[tuple[str, str, frozenset[str]]]:
    """Namespace, name and dimensions of each metric on the dashboard."""
    body = template.resources("AWS::CloudWatch::Dashboard", ALARMS)["Dashboard"]["DashboardBody"]["Fn::Sub"]
    given = {*template.read(ALARMS)["Parameters"], "AWS::Region"}
    assert set(re.findall(r"\$\{([\w:]+)\}", body)) <= given
    for widget in json.loads(body)["widgets"]:
        for row in widget["properties"]["metrics"]:
            if isinstance(row[0], dict):
                found = re.fullmatch(r"SEARCH\('\{(\w+),([\w,]+)\} MetricName=\"(\w+)\" .*", row[0]["expression"])
                assert found is not None, row
                yield found[1], found[3], frozenset(found[2].split(","))
            else:
                namespace, name, *pairs = [part for part in row if isinstance(part, str)]
                yield namespace, name, frozenset(pairs[::2])


def alarms() -> Iterator[tuple[str, str, frozenset[str]]]:
    """The same of each alarm."""
    for alarm in template.resources("AWS::CloudWatch::Alarm", ALARMS).values():
        assert alarm["TreatMissingData"] == "notBreaching", "nothing happens while nobody calls"
        metrics = [part["MetricStat"]["Metric"] for part in alarm.get("Metrics", ()) if "MetricStat" in part]
        for metric in metrics or [alarm]:
            yield metric["Namespace"], metric["MetricName"], frozenset(pair["Name"] for pair in metric["Dimensions"])
