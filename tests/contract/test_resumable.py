"""Streams that can be resumed, over HTTP on both stores: read on after each cut at one of two gateways on one state."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.contract.conftest import Serve
from tests.e2e.server import Server

KEY = {"authorization": "Bearer test-key-123"}
WORDS = " ".join(f"word{number}" for number in range(30))
BODY = {
    "model": "echo",
    "stream": True,
    "simulate": {"tokens_per_second": 25},
    "messages": [{"role": "user", "content": WORDS}],
}

pytestmark = pytest.mark.timeout(120)


def read(server: Server, path: str, most: int, **options: object) -> tuple[httpx.Headers, list[tuple[str, str]]]:
    """The first events of a stream, each with its id; then the connection is cut."""
    method = "POST" if "json" in options else "GET"
    found: list[tuple[str, str]] = []
    name = ""
    with httpx.stream(method, server.url + path, timeout=60, **options) as response:  # type: ignore[arg-type]
        assert response.status_code == 200, response.read()
        for line in response.iter_lines():
            field, _, value = line.partition(": ")
            if field == "id":
                name = value
            elif field == "data":
                found.append((name, value))
                if len(found) == most:
                    break
    return response.headers, found


@pytest.mark.row("D2")
def test_a_stream_that_is_cut_again_and_again_is_read_once(serve: Serve) -> None:
    gateway, other = serve(), serve()
    headers, events = read(gateway, "/v1/chat/completions", 2, json=BODY, headers={**KEY, "prefer": "resumable"})
    path = f"{headers['location']}/stream"
    for number in range(40):
        server = (other, gateway)[number % 2]
        events += read(server, path, 4, headers={**KEY, "last-event-id": events[-1][0]})[1]
        if events[-1][1] == "[DONE]":
            break
    *said, (_, last) = events
    assert last == "[DONE]"
    assert [name for name, _ in said] == [f"1-{number}" for number in range(1, len(said) + 1)]
    chunks = [json.loads(payload) for _, payload in said]
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    answer = httpx.get(gateway.url + headers["location"], headers=KEY).json()
    assert text == answer["choices"][0]["message"]["content"]
    assert text.endswith(WORDS)
