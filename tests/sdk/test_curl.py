"""What a person types in a shell."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

from tests.e2e.server import KEY, Server, chat, payloads, said, wait_for

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(not shutil.which("curl"), reason="curl is not on PATH"),
]


def curl(*arguments: str) -> str:
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--max-time", "20", *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout


def post(gateway: Server, body: Any, *arguments: str, key: str = f"Authorization: Bearer {KEY}") -> str:
    url = f"{gateway.url}/v1/chat/completions"
    return curl(url, "-H", key, "-H", "Content-Type: application/json", "-d", json.dumps(body), *arguments)


def test_a_plain_answer(gateway: Server) -> None:
    answer = json.loads(post(gateway, {**chat("hi"), "model": "simulated/echo"}))
    assert answer["choices"][0]["message"]["content"] == "[simulated] hi"


def test_a_streamed_answer(gateway: Server) -> None:
    streamed = post(gateway, {**chat("hi"), "model": "simulated/echo", "stream": True}, "--no-buffer")
    events = list(payloads(iter(streamed.splitlines())))
    assert said(events) == "[simulated] hi"
    assert events[-1] == "[DONE]"


@pytest.mark.parametrize("header", [f"Authorization: bearer {KEY}", f"X-API-Key: {KEY}", f"x-api-key:{KEY}"])
def test_a_key_in_either_header(header: str, gateway: Server) -> None:
    assert json.loads(curl(f"{gateway.url}/v1/models", "-H", header))["object"] == "list"


def test_an_error_has_a_status_and_words(gateway: Server) -> None:
    body, _, status = post(gateway, chat("hi", model="nope"), "--write-out", "\n%{http_code}").rpartition("\n")
    assert status == "404"
    assert json.loads(body)["error"]["code"] == "model_not_found"


def test_a_body_without_its_content_type_is_told_what_to_add(gateway: Server) -> None:
    said = curl(f"{gateway.url}/v1/chat/completions", "-H", f"X-API-Key: {KEY}", "-d", json.dumps(chat()))
    assert "send 'Content-Type: application/json'" in json.loads(said)["detail"]


def test_the_pages_for_people_and_machines(gateway: Server) -> None:
    assert "<title>Penstock" in curl(f"{gateway.url}/docs")
    assert json.loads(curl(f"{gateway.url}/health"))["status"] == "healthy"
    paths = json.loads(curl(f"{gateway.url}/openapi.json"))["paths"]
    assert {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/models"} <= paths.keys()


def test_an_answer_that_comes_later(gateway: Server) -> None:
    body = {**chat("hi"), "model": "simulated/echo"}
    head = post(gateway, body, "-H", "Prefer: respond-async", "--dump-header", "-", "--output", "/dev/null")
    assert head.startswith("HTTP/1.1 202 ")
    [path] = [line.split()[1] for line in head.splitlines() if line.lower().startswith("location:")]
    waited = post(gateway, body, "-H", "Prefer: respond-async, wait=20")
    assert json.loads(waited)["choices"][0]["message"]["content"] == "[simulated] hi"
    asked = ("-H", f"Authorization: Bearer {KEY}", f"{gateway.url}{path}")
    later = wait_for(lambda: [answer] if "choices" in (answer := json.loads(curl(*asked))) else [], "the answer")
    assert later[0]["choices"][0]["message"]["content"] == "[simulated] hi"
