"""Posting to addresses that callers have named: where the connection really goes, and what is made of the answer."""

from __future__ import annotations

import asyncio
import socket
import ssl
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from penstock.core.ports import Reply
from penstock.errors import AddressRefused, InvalidRequest, UpstreamTimeout, UpstreamUnavailable
from penstock.outbound import HttpClient, _resolver
from penstock.outbound.outlet import GuardedOutlet
from tests.wire import upstream as upstreams
from tests.wire.upstream import Call, Upstream, answering

LOOPBACK = ["127.0.0.1/32"]


@pytest.fixture
async def receiver() -> AsyncIterator[Upstream]:
    async with upstreams.serve(answering({"ok": True}, Connection="close")) as receiver:
        yield receiver


@asynccontextmanager
async def outlet(networks: list[str] | None = None, **options: Any) -> AsyncIterator[GuardedOutlet]:
    made = GuardedOutlet(LOOPBACK if networks is None else networks, **{"allow_http": True, **options})
    yield made
    await made.aclose()


class Names:
    """Stands in for the system's resolver: each lookup takes the next of the ``answers``, the last one stays."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: list[list[str]] = [["127.0.0.1"]]

    def getaddrinfo(self, host: str, *_: Any, **__: Any) -> list[Any]:
        self.asked.append(host)
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 0)) for one in found
        ]


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    names = Names()
    monkeypatch.setattr(_resolver.socket, "getaddrinfo", names.getaddrinfo)
    return names


def named(receiver: Upstream, host: str = "hook.example") -> str:
    return receiver.url.replace("127.0.0.1", host)


async def test_a_post_is_what_it_says(receiver: Upstream) -> None:
    async with outlet() as posting:
        assert await posting.post(f"{receiver.url}/hook?a=b", [("x-one", "1")], b"{}", timeout=5) == Reply(200)
    (call,) = receiver.calls
    assert (call.method, call.target, call.body) == ("POST", "/v1/hook?a=b", b"{}")
    assert call.headers["x-one"] == "1"


async def test_loopback_is_not_called_unless_it_is_allowed(receiver: Upstream) -> None:
    async with outlet([]) as posting:
        with pytest.raises(InvalidRequest, match="private, local or reserved"):
            await posting.post(receiver.url, [], b"", timeout=5)
    assert not receiver.calls


@pytest.mark.parametrize(
    "inside", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "10.0.0.1", "169.254.169.254", "64:ff9b::a9fe:a9fe"]
)
async def test_a_name_that_leads_inside_is_not_called(receiver: Upstream, names: Names, inside: str) -> None:
    names.answers = [["8.8.8.8", inside]]
    async with outlet([]) as posting:
        with pytest.raises(AddressRefused):
            await posting.post(named(receiver), [], b"", timeout=5)
    assert not receiver.calls


async def test_a_name_is_looked_up_once_and_the_address_that_was_checked_is_the_one_that_is_called(
    receiver: Upstream, names: Names
) -> None:
    names.answers = [["127.0.0.1"], ["10.0.0.1"]]  # whoever asks a second time is led elsewhere
    async with outlet() as posting:
        assert (await posting.post(named(receiver), [], b"", timeout=5)).status == 200
        assert names.asked == ["hook.example"]
        with pytest.raises(AddressRefused):
            await posting.post(named(receiver), [], b"", timeout=5)
    assert len(receiver.calls) == 1
    assert receiver.calls[0].headers["host"] == named(receiver).removeprefix("http://").removesuffix("/v1")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(receiver: Upstream, status: int) -> None:
    async with upstreams.serve(answering({"secret": True})) as inside:
        receiver.script = answering(b"", status, Location=inside.url)
        async with outlet() as posting:
            assert (await posting.post(receiver.url, [], b"", timeout=5)).status == status
        assert not inside.calls


async def test_no_proxy_of_the_environment_is_obeyed(receiver: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    async with upstreams.serve(answering({"proxy": True})) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
        async with outlet() as posting:
            assert (await posting.post(receiver.url, [], b"", timeout=5)).status == 200
        assert not proxy.calls


async def test_it_is_told_when_to_come_again(receiver: Upstream) -> None:
    receiver.script = answering({}, 503, Retry_After="7")
    async with outlet() as posting:
        assert await posting.post(receiver.url, [], b"", timeout=5) == Reply(503, 7.0)


async def test_a_body_without_end_is_cut_and_its_status_counts(receiver: Upstream) -> None:
    async def endlessly(call: Call) -> None:
        call.begin()
        while not call.gone.is_set():
            call.piece(b"x" * 4096)
            await call.drained()

    receiver.script = endlessly
    async with outlet() as posting:
        assert (await posting.post(receiver.url, [], b"", timeout=5)).status == 200
    async with asyncio.timeout(5):
        await receiver.calls[0].gone.wait()


async def test_who_says_nothing_in_time_has_failed(receiver: Upstream) -> None:
    async def silent(call: Call) -> None:
        await call.gone.wait()

    receiver.script = silent
    async with outlet() as posting:
        with pytest.raises(UpstreamTimeout):
            await posting.post(receiver.url, [], b"", timeout=0.05)


async def test_who_answers_and_never_ends_has_answered(receiver: Upstream) -> None:
    async def dripping(call: Call) -> None:
        call.begin()
        await call.gone.wait()

    receiver.script = dripping
    async with outlet() as posting:
        assert (await posting.post(receiver.url, [], b"", timeout=0.1)).status == 200


async def test_names_that_nobody_finds_keep_no_provider_from_being_found(
    receiver: Upstream, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    found = names.getaddrinfo

    def slow(host: str, *rest: Any, **more: Any) -> list[Any]:
        if host.startswith("lost"):
            go.wait(10)
        return found(host, *rest, **more)

    monkeypatch.setattr(_resolver.socket, "getaddrinfo", slow)
    client = HttpClient()
    async with outlet() as posting:
        lost = [posting.post(named(receiver, f"lost-{n}.example"), [], b"", timeout=0.2) for n in range(40)]
        waiting = asyncio.gather(*lost, return_exceptions=True)
        deadline = asyncio.get_running_loop().time() + 5
        answer = await client.request("GET", named(receiver), deadline=deadline)
        assert (await answer.read(), answer.status) == (b'{"ok": true}', 200)
        assert all(isinstance(error, UpstreamTimeout) for error in await waiting)
        go.set()
    await client.aclose()


# TLS


def signed_for(name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What a server of this name and a client that believes in its certificate speak TLS with."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    certificate = (
        x509.CertificateBuilder(issuer, issuer, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as both:
        both.write(private + certificate)
        both.flush()
        server.load_cert_chain(both.name)
    return server, ssl.create_default_context(cadata=certificate.decode())


async def answer_over_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
    writer.close()


@pytest.mark.parametrize(("host", "vouched"), [("hook.example", True), ("other.example", False), ("127.0.0.1", False)])
async def test_the_certificate_must_be_the_name_s_not_the_address_s(names: Names, host: str, vouched: bool) -> None:
    theirs, ours = signed_for("hook.example")
    told: list[str | None] = []
    theirs.sni_callback = lambda _, name, __: told.append(name)
    server = await asyncio.start_server(answer_over_tls, "127.0.0.1", 0, ssl=theirs)
    async with server, outlet(tls=ours) as posting:
        url = f"https://{host}:{server.sockets[0].getsockname()[1]}/"
        if vouched:
            assert (await posting.post(url, [], b"", timeout=5)).status == 204
            assert told == [host]
        else:
            with pytest.raises(UpstreamUnavailable, match="speaks no TLS that we accept"):
                await posting.post(url, [], b"", timeout=5)
