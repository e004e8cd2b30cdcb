"""Faults of connections: nobody there, nobody who answers, TLS that is none, HTTP that is none."""

from __future__ import annotations

import asyncio
import json
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import socket

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.wire.outage.answers import answer_well, number_of, streams, whole
from tests.wire.outage.faults import DOWN, LATE, NONE, ODD, Catalogue, Fault
from tests.wire.upstream import STREAM, Call

FAULTS = Catalogue()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"


# Nobody there


@asynccontextmanager
async def refused() -> AsyncIterator[str]:
    """An address where nobody listens, and nobody else can."""
    with socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{holder.getsockname()[1]}/v1"


@asynccontextmanager
async def not_taken_up() -> AsyncIterator[str]:
    """An address where a queue is full, so that connections are neither taken nor refused."""
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


@asynccontextmanager
async def not_resolved() -> AsyncIterator[str]:
    """A host that no resolver knows: its name is longer than DNS allows, so that none needs to be asked."""
    yield f"http://{'.'.join(['x' * 60] * 5)}/v1"


# TLS that is none


@asynccontextmanager
async def without_tls() -> AsyncIterator[str]:
    """An https:// address where somebody speaks plain HTTP."""
    server = await asyncio.start_server(_not_understand, "127.0.0.1", 0)
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


@asynccontextmanager
async def under_another_name() -> AsyncIterator[str]:
    """An https:// address with a certificate that nobody vouches for."""
    server = await asyncio.start_server(_hang_up, "127.0.0.1", 0, ssl=await asyncio.to_thread(_vouched_for_by_nobody))
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


@asynccontextmanager
async def without_a_handshake() -> AsyncIterator[str]:
    """An https:// address that takes connections and says nothing."""
    server = await asyncio.start_server(_say_nothing, "127.0.0.1", 0)
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        server.close()


async def _not_understand(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    writer.close()


async def _hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def _say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


def _vouched_for_by_nobody() -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "elsewhere.example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "both.pem"
        path.write_bytes(private + certificate)
        context.load_cert_chain(path)
    return context


FAULTS |= {
    "connection refused": Fault(DOWN, address=refused),
    "connection not taken up": Fault(LATE, late=True, address=not_taken_up),
    "host not resolved": Fault(DOWN, address=not_resolved),
    "no TLS behind https": Fault(DOWN, address=without_tls),
    "certificate of nobody": Fault(DOWN, address=under_another_name),
    "no TLS handshake": Fault(LATE, late=True, address=without_a_handshake),
}


# Before the head


@FAULTS.add(DOWN)
async def reset_before_the_head(call: Call) -> None:
    call.reset()


@FAULTS.add(DOWN)
async def closed_before_the_head(call: Call) -> None:
    call.close()


@FAULTS.add(LATE, late=True)
async def no_answer(call: Call) -> None:
    await call.gone.wait()


# Within the head


@FAULTS.add(ODD)
async def reset_at_byte_n_of_the_head(call: Call) -> None:
    call.write(HEAD[: 1 + number_of(call) * 7 % (len(HEAD) - 5)])
    await call.drained()
    call.reset()


@FAULTS.add(ODD)
async def closed_within_the_head(call: Call) -> None:
    call.write(HEAD[:30])
    call.close()


@FAULTS.add(LATE, late=True)
async def stalled_within_the_head(call: Call) -> None:
    call.write(HEAD[:30])
    await call.gone.wait()


@FAULTS.add(ODD)
async def a_header_of_a_megabyte(call: Call) -> None:
    call.write(b"HTTP/1.1 200 OK\r\nX-Trace: " + b"x" * 1_000_000 + b"\r\n\r\n")
    await call.gone.wait()


@FAULTS.add(ODD)
async def headers_without_end(call: Call) -> None:
    call.write(b"HTTP/1.1 200 OK\r\n")
    while not call.gone.is_set():
        call.write(b"X-Trace: more\r\n" * 1000)
        await call.drained()


@FAULTS.add(ODD)
async def not_http(call: Call) -> None:
    call.write(b"SSH-2.0-OpenSSH_9.6\r\n")


@FAULTS.add(ODD)
async def another_protocol_101(call: Call) -> None:
    call.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")


@FAULTS.add(ODD)
async def two_lengths(call: Call) -> None:
    call.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}")


# After the head, before the first word


def head(call: Call) -> bytes:
    """The head of a good answer."""
    kind = STREAM if streams(call) else "application/json"
    return f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()


@FAULTS.add(ODD)
async def reset_after_the_head(call: Call) -> None:
    call.write(head(call))
    await call.drained()
    call.reset()


@FAULTS.add(ODD)
async def closed_after_the_head(call: Call) -> None:
    call.write(head(call))
    call.close()


@FAULTS.add(LATE, late=True)
async def stalled_after_the_head(call: Call) -> None:
    call.write(head(call))
    await call.gone.wait()


@FAULTS.add(ODD)
async def chunks_that_are_none(call: Call) -> None:
    call.write(head(call) + b"what?\r\ndata\r\n")
    await call.gone.wait()


@FAULTS.add(ODD)
async def closed_before_the_promised_length(call: Call) -> None:
    kind = STREAM if streams(call) else "application/json"
    call.write(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: 5000\r\n\r\n".encode())
    call.close()


@FAULTS.add(ODD, only="plain")
async def reset_at_byte_n_of_a_plain_answer(call: Call) -> None:
    body = json.dumps(whole(call)).encode()
    call.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body))
    call.write(body[: number_of(call) * 7 % len(body)])
    await call.drained()
    call.reset()


# What is no fault


@FAULTS.add(NONE)
async def a_100_before_the_answer(call: Call) -> None:
    call.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    await answer_well(call)


@FAULTS.add(NONE)
async def early_hints_103_before_the_answer(call: Call) -> None:
    call.write(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
    await answer_well(call)


@FAULTS.add(NONE)
async def a_header_of_a_hundred_kilobytes(call: Call) -> None:
    call.write(b"HTTP/1.1 103 Early Hints\r\nX-Trace: " + b"x" * 100_000 + b"\r\n\r\n")
    await answer_well(call)


@FAULTS.add(NONE)
async def a_connection_closed_after_each_answer(call: Call) -> None:
    await answer_well(call)
    call.close()
