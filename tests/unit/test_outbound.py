"""The HTTP client: what it refuses to send, which connections it keeps, and what it makes of what it is answered."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from penstock.errors import UpstreamError, UpstreamProtocolError, UpstreamTimeout, UpstreamUnavailable
from penstock.outbound import HttpClient, Response, Target
from penstock.schema.http_section import Wire
from tests.wire import upstream as upstreams
from tests.wire.upstream import Call, Upstream, answering


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with upstreams.serve(answering({"ok": True})) as upstream:
        yield upstream


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    client = HttpClient()
    yield client
    await client.aclose()


def soon(seconds: float = 5) -> float:
    return asyncio.get_running_loop().time() + seconds


async def get(client: HttpClient, url: str, **fields: Any) -> Response:
    return await client.request("GET", url, **{"deadline": soon(), **fields})


# What is sent


async def test_a_request_is_what_it_says(client: HttpClient, upstream: Upstream) -> None:
    response = await client.request(
        "POST", f"{upstream.url}/a%20b?c=d&e", headers=[("x-one", "1"), ("x-two", "ü")], body=b"hello", deadline=soon()
    )
    assert (response.status, response.headers["content-type"]) == (200, "application/json")
    assert await response.read() == b'{"ok": true}'
    (call,) = upstream.calls
    assert (call.method, call.target, call.body) == ("POST", "/v1/a%20b?c=d&e", b"hello")
    assert call.headers["content-length"] == "5"
    assert call.headers["x-one"] == "1"
    assert call.headers["x-two"] == "ü"
    assert upstream.url == f"http://{call.headers['host']}/v1"


BREAKS = ["a\r\nx-evil: 1", "a\nx-evil: 1", "a\r", "\n"]


@pytest.mark.parametrize("text", BREAKS, ids=repr)
async def test_a_line_break_in_a_header_is_not_sent(client: HttpClient, upstream: Upstream, text: str) -> None:
    for headers in ([("x-one", text)], [(text, "1")]):
        with pytest.raises(ValueError, match="line break"):
            await get(client, upstream.url, headers=headers)
    assert not upstream.calls


@pytest.mark.parametrize("url", ["ftp://x/", "//x/", "x", "http://", "http:///path", "http://x:port/", ""])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - in whatever words
        Target("GET", url, ())


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://example.com", "example.com"),
        ("http://example.com:8080/x", "example.com:8080"),
        ("https://[::1]:8443/x", "[::1]:8443"),
        ("http://EXAMPLE.com/x", "example.com"),
    ],
)
def test_the_host_is_named_as_the_standard_wants_it(url: str, host: str) -> None:
    head = Target("GET", url, ()).head.decode()
    assert f"\r\nhost: {host}" in head
    assert head.startswith("GET /")


# Connections


async def read_all(client: HttpClient, upstream: Upstream, count: int) -> list[int]:
    """Make calls one after the other; answers on which connection each came."""
    for _ in range(count):
        await (await get(client, upstream.url)).read()
    return [call.connection for call in upstream.calls]


async def test_a_connection_is_used_again(client: HttpClient, upstream: Upstream) -> None:
    assert await read_all(client, upstream, 3) == [1, 1, 1]


async def test_calls_at_the_same_time_have_their_own(client: HttpClient, upstream: Upstream) -> None:
    responses = await asyncio.gather(*(get(client, upstream.url) for _ in range(3)))
    for response in responses:
        await response.read()
    assert sorted(call.connection for call in upstream.calls) == [1, 2, 3]
    await asyncio.gather(*(get(client, upstream.url) for _ in range(3)))
    assert sorted(call.connection for call in upstream.calls[3:]) == [1, 2, 3]


async def send(client: HttpClient, upstream: Upstream, wire: Wire) -> Response:
    return await client.send(Target("GET", upstream.url, (), wire), b"", deadline=soon(), connect_timeout=0.2)


async def test_a_connection_that_lay_idle_too_long_is_not_trusted(client: HttpClient, upstream: Upstream) -> None:
    for _ in range(3):
        await (await send(client, upstream, Wire(expiry=0.0))).read()
    assert [call.connection for call in upstream.calls] == [1, 2, 3]


async def test_idle_connections_are_closed(client: HttpClient, upstream: Upstream) -> None:
    await (await send(client, upstream, Wire(expiry=0.02))).read()
    async with asyncio.timeout(5):
        await upstream.calls[0].gone.wait()


async def test_closing_the_client_closes_what_is_idle(client: HttpClient, upstream: Upstream) -> None:
    await read_all(client, upstream, 1)
    await client.aclose()
    async with asyncio.timeout(5):
        await upstream.calls[0].gone.wait()


async def test_a_closed_response_cuts_its_connection(client: HttpClient, upstream: Upstream) -> None:
    async def script(call: Call) -> None:
        call.begin()
        call.piece(b"some")

    upstream.script = script
    response = await get(client, upstream.url)
    assert await response.chunk() == b"some"
    response.close()
    response.close()
    assert await response.chunk() == b""
    async with asyncio.timeout(5):
        await upstream.calls[0].gone.wait()


@pytest.mark.parametrize("place", ["before the head", "within the body"])
async def test_cancelling_closes_the_socket_at_once(client: HttpClient, upstream: Upstream, place: str) -> None:
    async def script(call: Call) -> None:
        if place == "within the body":
            call.begin()
            call.piece(b"some")

    async def ask() -> bytes:
        return await (await get(client, upstream.url, deadline=soon(60))).read()

    upstream.script = script
    task = asyncio.ensure_future(ask())
    call = await upstream.call()
    await call.sent()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        await call.gone.wait()


async def test_a_body_that_nobody_reads_is_not_taken_in(client: HttpClient, upstream: Upstream) -> None:
    async def script(call: Call) -> None:
        call.begin()
        while not call.gone.is_set():
            call.piece(b"x" * 100_000)
            await call.drained()

    upstream.script = script
    response = await get(client, upstream.url)
    async with asyncio.timeout(5):
        await (await upstream.call()).stuck()
    assert len(await response.chunk()) < 4_000_000
    response.close()


async def test_a_paused_body_goes_on_when_it_is_read(client: HttpClient, upstream: Upstream) -> None:
    upstream.script = answering(b"x" * 3_000_000)
    response = await get(client, upstream.url)
    await asyncio.sleep(0)
    assert len(await response.read()) == 3_000_000
    assert await read_all(client, upstream, 1) == [1, 1]


# Answers


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_without_a_body_is_whole(client: HttpClient, upstream: Upstream, status: int) -> None:
    async def script(call: Call) -> None:
        call.write(b"HTTP/1.1 %d Whatever\r\n\r\n" % status)

    upstream.script = script
    response = await get(client, upstream.url)
    assert (response.status, await response.read()) == (status, b"")


async def test_a_body_ends_with_its_connection_where_nothing_else_says(client: HttpClient, upstream: Upstream) -> None:
    async def script(call: Call) -> None:
        call.write(b"HTTP/1.0 200 OK\r\n\r\nall of it")
        call.close()

    upstream.script = script
    assert await (await get(client, upstream.url)).read() == b"all of it"


async def test_a_body_beyond_the_limit_is_refused_and_cut(client: HttpClient, upstream: Upstream) -> None:
    async def script(call: Call) -> None:
        call.begin()
        call.piece(b"x" * 2000)

    upstream.script = script
    with pytest.raises(UpstreamProtocolError, match="longer than 1000 bytes"):
        await (await get(client, upstream.url)).read(1000)
    async with asyncio.timeout(5):
        await upstream.calls[0].gone.wait()


BAD: dict[str, tuple[bytes, type[UpstreamError]]] = {
    "nothing": (b"", UpstreamUnavailable),
    "half a head": (b"HTTP/1.1 200 OK\r\nContent-", UpstreamProtocolError),
    "half a body": (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345", UpstreamProtocolError),
    "half a chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n123", UpstreamProtocolError),
    "no last chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n123\r\n", UpstreamProtocolError),
    "another protocol": (b"\x15\x03\x01\x00\x02\x02\x46", UpstreamProtocolError),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", UpstreamProtocolError),
}


@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_answer_is_an_error_that_says_which(client: HttpClient, upstream: Upstream, kind: str) -> None:
    async def script(call: Call) -> None:
        call.write(BAD[kind][0])
        call.close()

    upstream.script = script
    with pytest.raises(BAD[kind][1], match="127"):
        await (await get(client, upstream.url)).read()


@pytest.mark.parametrize("line", [b"x" * 1000, b"x: y\r\n" * 100, b"HTTP/1.1 100 Continue\r\n\r\n" * 100])
async def test_a_head_without_an_end_is_not_taken_in(client: HttpClient, upstream: Upstream, line: bytes) -> None:
    async def script(call: Call) -> None:
        call.write(b"HTTP/1.1 200 OK\r\n" if b"HTTP" not in line else b"")
        while not call.gone.is_set():
            call.write(line)
            await call.drained()

    upstream.script = script
    with pytest.raises(UpstreamProtocolError, match="sent a head longer than 262144 bytes"):
        await get(client, upstream.url)


async def test_a_long_head_is_taken_in(client: HttpClient, upstream: Upstream) -> None:
    upstream.script = answering(b"done", Set_Cookie="x" * 100_000)
    assert await (await get(client, upstream.url)).read() == b"done"


async def test_an_answer_that_nobody_asked_for_is_not_given_to_the_next(client: HttpClient, upstream: Upstream) -> None:
    async def script(call: Call) -> None:
        call.answer(b"mine")
        await go.wait()
        call.answer(b"nobody's")
        await call.gone.wait()

    go = asyncio.Event()
    upstream.script = script
    assert await (await get(client, upstream.url)).read() == b"mine"
    go.set()
    async with asyncio.timeout(5):
        await upstream.calls[0].gone.wait()
    assert await (await get(client, upstream.url)).read() == b"mine"


# Time


async def test_the_deadline_holds_for_the_head_and_for_the_last_byte(client: HttpClient, upstream: Upstream) -> None:
    async def script(call: Call) -> None:
        if call.target == "/v1/body":
            call.begin()
            call.piece(b"some")
        await call.gone.wait()

    upstream.script = script
    for path in ("/head", "/body"):
        with pytest.raises(UpstreamTimeout, match="in time"):
            await (await get(client, upstream.url + path, deadline=soon(0.05))).read()


async def test_a_long_deadline_after_a_short_one_is_the_long_one(client: HttpClient, upstream: Upstream) -> None:
    async def script(call: Call) -> None:
        if len(upstream.calls) > 1:
            await late.wait()
        call.answer(b"done")

    late = asyncio.Event()
    upstream.script = script
    await (await get(client, upstream.url, deadline=soon(0.05))).read()
    asking = asyncio.ensure_future(get(client, upstream.url))
    await upstream.call(1)
    asyncio.get_running_loop().call_later(0.1, late.set)
    assert await (await asking).read() == b"done"
    assert [call.connection for call in upstream.calls] == [1, 1]


async def test_a_short_deadline_after_a_long_one_is_the_short_one(client: HttpClient, upstream: Upstream) -> None:
    async def script(call: Call) -> None:
        if len(upstream.calls) == 1:
            call.answer(b"done")

    upstream.script = script
    await (await get(client, upstream.url, deadline=soon(60))).read()
    async with asyncio.timeout(5):
        with pytest.raises(UpstreamTimeout):
            await get(client, upstream.url, deadline=soon(0.05))


async def test_no_time_left_is_a_timeout(client: HttpClient, upstream: Upstream) -> None:
    with pytest.raises(UpstreamTimeout, match="no time is left"):
        await get(client, upstream.url, deadline=soon(-1))
    assert not upstream.calls


async def test_a_connection_that_is_not_taken_up_is_a_timeout(client: HttpClient) -> None:
    with socket.socket() as listener:  # with its queue full, it neither accepts nor refuses
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        port = listener.getsockname()[1]
        with pytest.raises(UpstreamTimeout, match=r"took no connection within 0\.1 s"):
            await get(client, f"http://127.0.0.1:{port}/", connect_timeout=0.1)
        for each in waiting:
            each.close()


# Nobody there


async def test_a_refused_connection_says_where(client: HttpClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(UpstreamUnavailable, match=f"127.0.0.1:{port} cannot be reached"):
        await get(client, f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("host", [".".join(["x" * 60] * 5), "x" * 64, "a..b"])
async def test_a_name_that_cannot_be_resolved_says_so(client: HttpClient, host: str) -> None:
    with pytest.raises(UpstreamUnavailable, match="cannot be resolved"):
        await get(client, f"http://{host}/")


async def test_a_server_without_tls_says_so(client: HttpClient) -> None:
    async def plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plainly, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(UpstreamUnavailable, match=f"127.0.0.1:{port} speaks no TLS that we accept"):
            await get(client, f"https://127.0.0.1:{port}/")
