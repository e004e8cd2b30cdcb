"""The buffered door, driven by every event of its own through AWS's runtime interface client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functions import doors, runtime_api, template


@pytest.fixture(scope="module")
def door(api: runtime_api.RuntimeApi, given: dict[str, str], folder: Path) -> Iterator[doors.Door]:
    with doors.buffered(
        "HttpApi", api, given | {"PENSTOCK_FLEET_SECRET": "a-secret-of-the-fleet"}, folder / "log"
    ) as door:
        yield door


def called(door: doors.Door, name: str) -> tuple[int, Any]:
    """Status and JSON body of the answer to an event of events/."""
    answer = door.call(doors.event(name))
    assert answer["isBase64Encoded"] is False
    return answer["statusCode"], json.loads(answer["body"])


def test_health_needs_no_key_and_tells_a_stranger_little(door: doors.Door) -> None:
    status, body = called(door, "http_api_health")
    assert status == 200
    assert body["status"] == "healthy"
    assert set(body) == {"status", "version"}


def test_models_are_listed(door: doors.Door) -> None:
    status, body = called(door, "http_api_models")
    assert status == 200
    assert [model["id"] for model in body["data"]] == ["simulated/echo"]


def test_a_model_whose_id_holds_a_slash_is_found(door: doors.Door) -> None:
    status, body = called(door, "http_api_model")
    assert (status, body["id"], body["object"]) == (200, "simulated/echo", "model")


@pytest.mark.row("D1", "D4")
def test_embeddings_are_answered_one_for_each_input(door: doors.Door) -> None:
    status, body = called(door, "http_api_embeddings")
    assert status == 200
    assert [item["index"] for item in body["data"]] == [0, 1]
    assert body["model"] == "simulated/echo"


def test_bad_json_is_the_callers_mistake(door: doors.Door) -> None:
    status, body = called(door, "http_api_bad_json")
    assert status == 400
    assert body["error"]["type"] == "invalid_request_error"


def test_a_key_without_the_scope_admin_makes_none(door: doors.Door) -> None:
    answer = door.call(doors.presenting(doors.event("http_api_make_key"), "test-key"))
    assert (answer["statusCode"], json.loads(answer["body"])["error"]["code"]) == (403, "insufficient_permissions")


def test_a_caller_sees_what_his_own_key_used(door: doors.Door) -> None:
    called(door, "http_api_embeddings")
    status, body = called(door, "http_api_usage")
    assert status == 200
    assert [line["model"] for line in body["data"]] == ["simulated/echo"]
    assert body["total"]["requests"] >= 1


@pytest.mark.row("D1")
def test_no_key_no_answer(door: doors.Door) -> None:
    status, body = called(door, "http_api_no_key")
    assert status == 401
    assert body["error"]["code"] == "invalid_api_key"


def test_an_unknown_route_is_not_found(door: doors.Door) -> None:
    status, body = called(door, "http_api_unknown_route")
    assert status == 404
    assert "/v1/nowhere" in body["error"]["message"]


def test_the_docs_page_asks_for_its_document_below_the_stage(door: doors.Door) -> None:
    answer = door.call(doors.event("http_api_docs"))
    assert answer["statusCode"] == 200
    assert "'/live/openapi.json'" in answer["body"]


def test_the_openapi_document_names_the_stage_as_its_server(door: doors.Door) -> None:
    status, body = called(door, "http_api_openapi")
    assert status == 200
    assert body["servers"] == [{"url": "/live"}]
    assert "/v1/chat/completions" in body["paths"]


def test_metrics_are_for_keys_with_that_scope(door: doors.Door) -> None:
    assert door.call(doors.event("http_api_metrics"))["statusCode"] == 401
    assert door.call(doors.event("http_api_health"))["statusCode"] == 200  # looks at the state
    told = door.call(doors.presenting(doors.event("http_api_metrics"), "test-key"))  # a client that accepts JSON
    assert {"timestamp", "providers", "summary"} <= set(json.loads(told["body"]))
    event = doors.presenting(doors.event("http_api_metrics"), "test-key")
    event["headers"]["Accept"] = "text/plain"
    event["multiValueHeaders"]["Accept"] = ["text/plain"]
    answer = door.call(event)
    assert answer["statusCode"] == 200
    assert answer["isBase64Encoded"] is False
    assert answer["headers"]["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'penstock_state_calls_total{result="ok",store="' in answer["body"]


def test_every_answer_carries_a_request_id(door: doors.Door) -> None:
    names = ["http_api_health", "http_api_models", "http_api_bad_json", "http_api_no_key", "http_api_unknown_route"]
    identifiers = {door.call(doors.event(name))["headers"]["x-request-id"] for name in names}
    assert len(identifiers) == len(names)


def test_every_event_of_this_door_is_answered_below_500(door: doors.Door) -> None:
    names = [path.stem for path in sorted((template.ROOT / "events").glob("http_api_*.json"))]
    assert len(names) >= 7
    statuses = {name: door.call(doors.event(name))["statusCode"] for name in names}
    assert all(status < 500 for status in statuses.values()), statuses


def test_one_process_and_one_loop_serve_every_invocation(door: doors.Door) -> None:
    assert door.call(doors.event("http_api_models")) is not None
    assert door.process.poll() is None
    assert "attached to a different loop" not in door.log
    assert "Traceback" not in door.log


def test_a_state_that_cannot_be_opened_is_told_in_wire_form(given: dict[str, str], folder: Path) -> None:
    broken = {**given, "PENSTOCK_STATE_URL": "sqlite:////proc/nowhere/state.db"}
    with runtime_api.serve() as api, doors.buffered("HttpApi", api, broken, folder / "broken.log") as door:
        answer = door.call(doors.event("http_api_models"))
    assert answer["statusCode"] in (500, 503)
    assert json.loads(answer["body"])["error"]["message"]


def test_the_line_of_a_request_holds_its_metrics(door: doors.Door) -> None:
    answer = door.call(doors.event("http_api_embeddings"))
    assert answer["statusCode"] == 200
    lines = [json.loads(line) for line in door.log.splitlines() if answer["headers"]["x-request-id"] in line]
    [line] = [line for line in lines if "_aws" in line]
    assert (line["Requests"], line["FailedRequests"]) == ([1.0], [0.0])
    assert {"level", "location", "message", "timestamp", "service"} <= set(line)
