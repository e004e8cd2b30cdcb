"""The streaming door: run.sh under the real Lambda Web Adapter, against a Runtime API that keeps each chunk's time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.functions import adapter, doors, runtime_api, upstream
from tests.functions.runtime_api import Invocation

pytestmark = pytest.mark.timeout(900)  # where cargo must build the adapter first, it takes minutes


@pytest.fixture(scope="module")
def program() -> Path:
    return adapter.find()


@pytest.fixture
def pipe() -> Iterator[upstream.Upstream]:
    with upstream.serve() as pipe:
        yield pipe


@contextmanager
def streaming(program: Path, pipe: upstream.Upstream, folder: Path, **given: str) -> Iterator[doors.Door]:
    config = folder / "config.yaml"
    provider = {"name": "pipe", "type": "openai", "base_url": pipe.url, "models": [upstream.MODEL]}
    config.write_text(json.dumps({"auth": {"api_keys": ["test-key"]}, "providers": [provider]}), encoding="utf-8")
    given = {"PENSTOCK_STATE_URL": f"sqlite:///{folder}/state.db", "PENSTOCK_CONFIG": str(config), **given}
    with runtime_api.serve() as api, doors.streaming(program, api, given, folder / "log") as door:
        yield door


@pytest.fixture
def door(program: Path, pipe: upstream.Upstream, tmp_path: Path) -> Iterator[doors.Door]:
    with streaming(program, pipe, tmp_path) as door:
        yield door


def chat(**fields: Any) -> dict[str, Any]:
    """The streamed chat event with other fields in its body."""
    event = doors.event("stream_api_chat")
    event["body"] = json.dumps(json.loads(event["body"]) | {"model": upstream.MODEL} | fields)
    return event


def payloads(invocation: Invocation) -> list[str]:
    """The data of the server-sent events that arrived, in order."""
    events = invocation.body.decode().split("\n\n")
    return [event.removeprefix("data: ") for event in events if event.startswith("data: ")]


@pytest.mark.row("D1", "D2", "D4")
def test_chunks_arrive_while_the_upstream_still_holds_the_rest(door: doors.Door, pipe: upstream.Upstream) -> None:
    invocation = door.invoke(chat())
    invocation.wait_until(lambda: b"first" in invocation.body, "the first chunk")
    assert not invocation.complete
    assert b"last" not in invocation.body
    released = time.monotonic()
    pipe.let_go.set()
    invocation.wait()
    first = next(moment for moment, chunk in invocation.chunks if b"first" in chunk)
    last = next(moment for moment, chunk in invocation.chunks if b"last" in chunk)
    assert first < released < last
    assert payloads(invocation)[-1] == "[DONE]"


def test_the_answer_is_in_the_form_that_api_gateway_streams(door: doors.Door, pipe: upstream.Upstream) -> None:
    pipe.let_go.set()
    invocation = door.invoke(chat()).wait()
    assert invocation.headers["Lambda-Runtime-Function-Response-Mode"] == "streaming"
    assert invocation.headers["Content-Type"] == "application/vnd.awslambda.http-integration-response"
    assert invocation.prelude["statusCode"] == 200
    assert invocation.prelude["headers"]["content-type"].startswith("text/event-stream")
    assert invocation.prelude["headers"]["x-request-id"]


def test_a_plain_call_takes_the_same_way(door: doors.Door, pipe: upstream.Upstream) -> None:
    pipe.let_go.set()
    invocation = door.invoke(chat(stream=False)).wait()
    assert invocation.prelude["statusCode"] == 200
    answer = json.loads(invocation.body)
    assert answer["object"] == "chat.completion"
    assert answer["model"] == upstream.MODEL
    assert answer["choices"][0]["message"]["content"] == "whole"


def test_a_cut_upstream_ends_in_a_typed_error_and_not_in_a_broken_stream(
    door: doors.Door, pipe: upstream.Upstream
) -> None:
    pipe.cut = True
    invocation = door.invoke(chat())
    invocation.wait_until(lambda: b"first" in invocation.body, "the first chunk")
    pipe.let_go.set()
    invocation.wait()
    assert json.loads(payloads(invocation)[-1])["error"]["code"]
    assert "[DONE]" not in payloads(invocation)
    assert invocation.fault == ""


def test_a_server_killed_in_the_middle_is_told_in_the_error_trailers(door: doors.Door, pipe: upstream.Upstream) -> None:
    invocation = door.invoke(chat())
    invocation.wait_until(lambda: b"first" in invocation.body, "the first chunk")
    door.process.kill()
    invocation.wait()
    assert "Lambda-Runtime-Function-Error-Type" in invocation.headers.get_all("Trailer", [])
    assert "Lambda-Runtime-Function-Error-Type: Runtime.StreamError" in invocation.fault
    assert "Lambda-Runtime-Function-Error-Body: " in invocation.fault


def test_without_a_key_the_refusal_is_a_whole_401(door: doors.Door) -> None:
    invocation = door.invoke(doors.presenting(chat(), None)).wait()
    assert invocation.prelude["statusCode"] == 401
    assert json.loads(invocation.body)["error"]["code"] == "invalid_api_key"


def test_one_server_answers_one_invocation_after_another(door: doors.Door, pipe: upstream.Upstream) -> None:
    pipe.let_go.set()
    bodies = [payloads(door.invoke(chat()).wait())[-1] for _ in range(3)]
    assert bodies == ["[DONE]"] * 3
    assert door.process.poll() is None
