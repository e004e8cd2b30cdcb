"""template.yaml and infra/state.yaml: what the AWS system promises, read off the page."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from typing import Any

import pytest

from penstock.core.jobs.submission import WAITING
from penstock.schema.batch import LINE_KEPT
from penstock.stores import dynamodb
from tests.functions import doors, sam, template

STREAMED = {
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/chat/completions"),
    ("POST", "/completions"),
    ("POST", "/infer"),
    ("POST", "/v1/images/generations"),
    ("GET", "/v1/jobs/{job_id}/stream"),
    ("GET", "/v1/files/{file_id}/content"),
    ("GET", "/stream/{task_id}"),
}
BUFFERED = {
    ("GET", "/health"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{model+}"),
    ("GET", "/models"),
    ("GET", "/models/{model+}"),
    ("GET", "/v1/jobs/{job_id}"),
    ("DELETE", "/v1/jobs/{job_id}"),
    ("POST", "/generate"),
    ("GET", "/status/{task_id}"),
    ("GET", "/result/{task_id}"),
    ("POST", "/v1/files"),
    ("GET", "/v1/files"),
    ("GET", "/v1/files/{file_id}"),
    ("DELETE", "/v1/files/{file_id}"),
    ("POST", "/v1/batches"),
    ("GET", "/v1/batches"),
    ("GET", "/v1/batches/{batch_id}"),
    ("POST", "/v1/batches/{batch_id}/cancel"),
    ("POST", "/v1/webhooks"),
    ("GET", "/v1/webhooks"),
    ("GET", "/v1/webhooks/{webhook_id}"),
    ("PATCH", "/v1/webhooks/{webhook_id}"),
    ("DELETE", "/v1/webhooks/{webhook_id}"),
    ("POST", "/v1/webhooks/{webhook_id}/rotate"),
    ("POST", "/v1/webhooks/{webhook_id}/test"),
    ("GET", "/v1/webhooks/{webhook_id}/deliveries"),
    ("POST", "/v1/webhooks/deliveries/{delivery_id}/redeliver"),
    ("GET", "/v1/alerts"),
    ("POST", "/v1/alerts/{alert_id}/acknowledge"),
    ("POST", "/v1/rules"),
    ("GET", "/v1/rules"),
    ("GET", "/v1/rules/{rule_name}"),
    ("PUT", "/v1/rules/{rule_name}"),
    ("DELETE", "/v1/rules/{rule_name}"),
    ("POST", "/v1/rules/{rule_name}/test"),
    ("POST", "/v1/embeddings"),
    ("POST", "/api/v1/apikeys"),
    ("GET", "/api/v1/apikeys"),
    ("GET", "/api/v1/apikeys/{key_id}"),
    ("PATCH", "/api/v1/apikeys/{key_id}"),
    ("DELETE", "/api/v1/apikeys/{key_id}"),
    ("POST", "/api/v1/apikeys/{key_id}/rotate"),
    ("GET", "/api/v1/audit"),
    ("GET", "/v1/providers"),
    ("GET", "/v1/providers/{provider}/models"),
    ("GET", "/v1/providers/{provider}/models/{model+}"),
    ("POST", "/v1/providers/{provider}/models/refresh"),
    ("GET", "/v1/providers/{provider}/model_selection"),
    ("PUT", "/v1/providers/{provider}/model_selection"),
    ("GET", "/metrics"),
    ("GET", "/metrics/prometheus"),
}


def events(function: str, kind: str) -> list[dict[str, Any]]:
    found = template.functions()[function].get("Events", {}).values()
    return [event["Properties"] for event in found if event["Type"] == kind]


def routes(function: str) -> set[tuple[str, str]]:
    return {(event["Method"], event["Path"]) for event in events(function, "Api")}


def test_every_route_stands_on_the_page_with_its_method() -> None:
    assert routes("StreamApi") == STREAMED
    assert routes("HttpApi") >= BUFFERED
    every = [route for function in template.functions() for route in sorted(routes(function))]
    assert len(every) == len(set(every))
    assert not [route for route in every if route[0] == "ANY" or "proxy" in route[1]]


def kind(method: str, path: str) -> tuple[str, ...]:
    """What a route is to the event that it causes: its method, and which of its parts are parameters."""
    return (method, *("greedy" if part.endswith("+}") else "one" for part in path.split("/") if part.startswith("{")))


@pytest.mark.row("D3")
@pytest.mark.parametrize("function", ["HttpApi", "StreamApi"])
def test_events_hold_one_of_every_kind_of_route_and_no_other(function: str) -> None:
    door = template.functions()[function]["Handler"].partition("/")[0]
    held = [doors.event(path.stem) for path in (template.ROOT / "events").glob(f"{door}_*.json")]
    asked = {(event["httpMethod"], event["resource"]) for event in held}
    assert {kind(*route) for route in routes(function)} <= {kind(*route) for route in asked}
    assert asked - routes(function) <= {("GET", "/{proxy+}")}  # the route that does not exist


def test_completions_are_streamed_for_up_to_15_minutes() -> None:
    for event in events("StreamApi", "Api"):
        assert event["ResponseTransferMode"] == "RESPONSE_STREAM"
        assert event["TimeoutInMillis"] == 15 * 60 * 1000
    assert template.functions()["StreamApi"]["Timeout"] == 15 * 60
    assert template.variables("StreamApi")["AWS_LWA_INVOKE_MODE"] == "response_stream"


def test_buffered_routes_end_before_api_gateway_gives_up() -> None:
    assert template.functions()["HttpApi"]["Timeout"] <= 29


def test_the_api_is_regional() -> None:
    assert template.resources("AWS::Serverless::Api")["Api"]["EndpointConfiguration"] == {"Type": "REGIONAL"}


@pytest.mark.parametrize("function", template.functions())
def test_a_handler_is_there(function: str) -> None:
    handler = template.functions()[function]["Handler"]
    if handler.endswith(".sh"):
        assert os.access(template.ROOT / "functions" / handler, os.X_OK)
    else:
        module, _, name = handler.rpartition(".")
        assert name == "handler"
        assert importlib.util.find_spec(module.replace("/", ".")) is not None


def test_python_and_architecture_are_parameters_with_awss_newest_as_default() -> None:
    page = template.read()
    assert page["Globals"]["Function"]["Runtime"] == {"Ref": "Runtime"}
    assert page["Globals"]["Function"]["Architectures"] == [{"Ref": "Architecture"}]
    assert page["Parameters"]["Runtime"]["Default"] == "python3.13"
    assert page["Parameters"]["Architecture"]["Default"] == "arm64"


def test_failed_messages_come_back_alone_and_end_in_a_queue_of_their_own() -> None:
    queues = template.resources("AWS::SQS::Queue")
    sources = events("JobRunner", "SQS")
    assert [source["Queue"]["Fn::GetAtt"][0] for source in sources] == ["JobQueue", "UrgentJobQueue"]
    for source in sources:
        assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        queue = queues[source["Queue"]["Fn::GetAtt"][0]]
        assert queue["RedrivePolicy"]["deadLetterTargetArn"] == {"Fn::GetAtt": ["PoisonedJobs", "Arn"]}
        assert queue["VisibilityTimeout"] >= template.functions()["JobRunner"]["Timeout"]


def test_the_housekeeper_comes_on_a_schedule() -> None:
    [schedule] = events("Housekeeper", "Schedule")
    assert schedule["Schedule"].startswith("rate(")


def test_secrets_are_not_echoed_and_have_no_value_on_the_page() -> None:
    for name, parameter in template.read()["Parameters"].items():
        if "Key" in name:
            assert parameter["NoEcho"] is True
            assert parameter["Default"] == ""


def test_the_tables_are_the_stores_own() -> None:
    tables = template.resources("AWS::DynamoDB::Table", "infra/state.yaml")
    shapes = {
        table["TableName"]["Fn::Sub"].removeprefix("${TablePrefix}-"): {
            part: table[part]
            for part in ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")
            if part in table
        }
        for table in tables.values()
    }
    assert shapes == dynamodb.TABLES


def test_the_tables_are_paid_by_the_call_and_outlive_the_stack() -> None:
    page = template.read("infra/state.yaml")
    for name, kept in page["Resources"].items():
        if name != "Cached":  # it may be lost
            assert kept["DeletionPolicy"] == kept["UpdateReplacePolicy"] == "Retain"
    for name, table in page["Resources"].items():
        if table["Type"] != "AWS::DynamoDB::Table":
            continue
        recovery = table["Properties"].get("PointInTimeRecoverySpecification")
        assert table["Properties"]["BillingMode"] == "PAY_PER_REQUEST"
        assert recovery == ({"PointInTimeRecoveryEnabled": True} if name != "Cached" else None)
        assert table["Properties"]["TimeToLiveSpecification"] == {"AttributeName": "expires", "Enabled": True}


def test_the_bucket_is_private_and_keeps_nothing_that_was_given_up() -> None:
    bucket = template.resources("AWS::S3::Bucket", "infra/state.yaml")["Objects"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    rules = bucket["LifecycleConfiguration"]["Rules"]
    assert any(rule.get("AbortIncompleteMultipartUpload") for rule in rules)
    days = template.read("infra/state.yaml")["Parameters"]["JobObjectDays"]["Default"]
    assert [rule["ExpirationInDays"] for rule in rules if rule.get("Prefix") == "jobs/"] == [{"Ref": "JobObjectDays"}]
    assert days * 86400 >= WAITING + LINE_KEPT + 86400


@pytest.mark.timeout(300)  # the SAM CLI is installed first
@sam.needed
@pytest.mark.row("D5")
def test_the_sam_cli_finds_nothing_wrong() -> None:
    sam.install(sam.SAM)
    checked = subprocess.run(
        ["make", "--no-print-directory", "sam-check"],
        cwd=template.ROOT,
        env=sam.ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.count("is a valid SAM Template") == 3
