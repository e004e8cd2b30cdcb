"""Odd heads, paths, methods and sizes: always an answer, always a 4xx in our form, and never much memory."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.server import KEY, Server, chat, wait_for
from tests.e2e.test_bodies import CHAT, GOOD, ROUTES, refusal

pytestmark = pytest.mark.timeout(240)
MIB = 1024 * 1024


def error(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The error of an answer with this status."""
    assert answer.status_code == status, answer.text
    assert answer.headers["x-request-id"].startswith("req_")
    told: dict[str, Any] = answer.json()["error"]
    return told


def resident(server: Server) -> int:
    """Bytes of memory that the server holds."""
    with open(f"/proc/{server.process.pid}/statm", encoding="ascii") as numbers:
        return int(numbers.read().split()[1]) * 4096


def exchange(server: Server, data: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send these bytes, and read until the server closes: status, headers, body."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as wire:
        wire.sendall(data)
        received = b""
        while part := wire.recv(65536):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    return int(status.split()[1]), dict(line.lower().split(": ", 1) for line in lines), body


# keys


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": "Basic dXNlcjpwYXNz"}, {"authorization": KEY}, {"authorization": "Bearer"}, {"cookie": KEY}],
)
def test_without_a_key_the_answer_says_how_to_send_one(headers: dict[str, str], route: str, gateway: Server) -> None:
    told = error(httpx.post(gateway.url + route, json=GOOD[route], headers=headers), 401)
    assert told["code"] == "invalid_api_key"
    assert told["message"] == "No API key was given: send it as 'Authorization: Bearer <key>'."


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    "key", [b"wrong", b"test-key ,", b"\xff\xfe", b"' OR 1=1 --", b"../../x", b"k" * 10_000, b"%00"]
)
def test_a_wrong_key_is_not_known(key: bytes, route: str, gateway: Server) -> None:
    answer = httpx.post(gateway.url + route, json=GOOD[route], headers=[(b"authorization", b"Bearer " + key)])
    told = error(answer, 401)
    assert (told["code"], told["message"]) == ("invalid_api_key", "This API key is not known here.")


def test_a_stranger_is_refused_before_its_body_is_read(gateway: Server) -> None:
    head = b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as wire:
        wire.sendall(head % CHAT.encode())
        assert wire.recv(4096).startswith(b"HTTP/1.1 401 ")


# sizes


def test_a_large_body_is_refused_without_being_kept(gateway: Server, client: httpx.Client) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(50):
            yield b" " * MIB

    before = resident(gateway)
    message = f"Request body exceeds the limit of {20 * MIB} bytes."
    kind = {"content-type": "application/json"}
    for content in (b" " * 50 * MIB, pieces()):
        for route in ROUTES[:1] if isinstance(content, Iterator) else ROUTES:
            assert refusal(client.post(route, content=content, headers=kind), 413) == (message, None)
    assert resident(gateway) - before < 30 * MIB


def test_a_length_alone_is_enough_to_be_refused(gateway: Server) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: {10**15}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as wire:
        wire.sendall(head.encode())
        assert wire.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_body_just_below_the_limit_is_taken(client: httpx.Client) -> None:
    body = json.dumps(chat("x" * 19 * MIB)).encode()
    answer = client.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 200
    assert len(answer.content) > 19 * MIB


@pytest.mark.parametrize("size", [1_000_000, 10_000_000])
def test_a_head_has_an_end(size: int, gateway: Server) -> None:
    before = resident(gateway)
    request = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nx-long: {'x' * size}\r\n\r\n"
    status, headers, body = exchange(gateway, request.encode())
    assert (status, headers["content-type"]) == (431, "application/json")
    assert headers["x-request-id"].startswith("req_")
    assert json.loads(body)["error"]["message"] == "The headers are more than 256, or longer than 65536 bytes."
    assert resident(gateway) - before < 10 * MIB


def test_headers_are_counted(gateway: Server) -> None:
    many = "".join(f"x-{number}: 1\r\n" for number in range(1000))
    assert exchange(gateway, f"GET /health HTTP/1.1\r\nhost: x\r\n{many}\r\n".encode())[0] == 431


def test_a_long_path_has_an_end(gateway: Server) -> None:
    assert exchange(gateway, b"GET /v1/models/%s HTTP/1.1\r\nhost: x\r\n\r\n" % (b"a" * 1_000_000))[0] == 431


# what is no HTTP


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n\r\n",
        b"FOO /v1/models HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /v1/m\xc3\xa9 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET v1/models HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /v1/models HTTP/9.9\r\nhost: x\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx: a\x00b\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: x\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_http_is_told_so(data: bytes, gateway: Server) -> None:
    status, headers, body = exchange(gateway, data)
    assert (status, headers["content-type"]) == (400, "application/json")
    assert headers["x-request-id"].startswith("req_")
    assert json.loads(body)["error"]["message"] == "This is not a valid HTTP/1.1 request."


def test_a_client_that_leaves_in_the_middle_of_its_body_harms_nobody(gateway: Server, client: httpx.Client) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: 1000\r\n\r\n"
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as wire:
            wire.sendall(head.encode() + b'{"model":')
    assert client.post(CHAT, json=chat()).status_code == 200


# paths and methods


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE"])
def test_a_post_route_takes_nothing_else(method: str, route: str, client: httpx.Client) -> None:
    answer = client.request(method, route, json=GOOD[route])
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.headers["x-request-id"].startswith("req_")
    if method == "HEAD":
        assert answer.content == b""
    else:
        assert refusal(answer, 405) == (f"{route} does not take {method}.", None)


@pytest.mark.parametrize("route", ["/v1/models", "/v1/models/echo", "/health"])
@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"])
def test_a_get_route_takes_nothing_else(method: str, route: str, client: httpx.Client) -> None:
    assert client.request(method, route).status_code == 405


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/",
        "/v1/chat",
        "/v1/chat/completions/",
        "/v1//chat/completions",
        "/V1/chat/completions",
        "/v1/chat/completions;a=b",
        "/v1/chat/completions%00",
        "/v1/chat/completions%20",
        "/v1/chat/completions%2f..",
        "/..%2f..%2fetc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/static/../../etc/passwd",
        "/%ff%fe",
        "/favicon.ico",
        "/.env",
        "/docs/../config.yaml",
        "http://169.254.169.254/latest/meta-data",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_there_is_nothing_at_other_paths(method: str, path: str, gateway: Server) -> None:
    body = json.dumps(chat())
    request = (
        f"{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}"
    )
    status, headers, answer = exchange(gateway, request.encode())
    assert status == 404
    assert headers["x-request-id"].startswith("req_")
    told = json.loads(answer)["error"]
    assert (told["type"], told["code"]) == ("invalid_request_error", "not_found")


@pytest.mark.parametrize(
    "name", ["%00", "%ff", "..%2f..%2fetc", "echo/", "echo%20", "a" * 500, "<script>", "'; --", "é"]
)
def test_a_model_of_an_odd_name_is_not_found(name: str, client: httpx.Client) -> None:
    told = error(client.get(f"/v1/models/{name}"), 404)
    assert (told["code"], told["param"]) == ("model_not_found", "model")


def test_a_query_changes_nothing(client: httpx.Client) -> None:
    assert client.post(f"{CHAT}?stream=true&model=nope&x=%ff", json=chat()).json()["model"] == "echo"


def test_a_key_in_the_query_opens_nothing_and_is_not_logged(gateway: Server) -> None:
    assert error(httpx.get(f"{gateway.url}/v1/models?api_key={KEY}"), 401)["code"] == "invalid_api_key"
    assert KEY not in gateway.err


def test_each_answer_has_an_id_of_its_own_and_the_callers_is_not_believed(client: httpx.Client) -> None:
    seen = {client.get("/health", headers={"x-request-id": "mine"}).headers["x-request-id"] for _ in range(10)}
    assert len(seen) == 10
    assert all(name.startswith("req_") for name in seen)


def test_what_happened_is_written_down_under_the_same_id(gateway: Server, client: httpx.Client) -> None:
    name = client.post(CHAT, json=chat()).headers["x-request-id"]
    wait_for(lambda: any(outcome["request_id"] == name for outcome in gateway.outcomes()), "the outcome in the ledger")
    wait_for(lambda: name in gateway.err, "the outcome in the log")
