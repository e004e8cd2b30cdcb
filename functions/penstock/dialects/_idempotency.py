"""``Idempotency-Key``: a POST that is sent again under its key is served once, and answered alike each time.

The header is that of draft-ietf-httpapi-idempotency-key-header-07. Another body under a key is 409, as Stripe has it.
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any

from penstock.core.json import parse, to_json
from penstock.dialects._address import caller_address, is_trusted
from penstock.dialects._exchange import ClientLeft, Exchange, Message, RawHeaders, Receive, Send
from penstock.dialects._jobs import REPLAYED
from penstock.dialects._presented import presented_key
from penstock.errors import AnswerNotKept, KeyReused
from penstock.schema.job import COMPLETED, Job

LARGEST = 64 * 1024
"""Bytes of an answer that is kept."""
_BOUNDARY = re.compile(r'^multipart/.*boundary="?([^";,]+)', re.IGNORECASE)
KEPT = (b"content-type", b"location", b"preference-applied")

Serve = Callable[[Receive, Send], Awaitable[None]]


async def once(exchange: Exchange, key: str, serve: Serve, send: Send) -> None:
    """Have a request served, or tell what its first sending was answered.

    An answer other than 2xx is not kept: sent again, the request is served again. One that says
    ``Cache-Control: no-store`` holds a secret, and is told once.
    """
    who = await _who(exchange)
    if who is None:
        await serve(exchange.receive, send)
        return
    scope, repeats = exchange.scope, exchange.house.repeats
    job = await repeats.begin(who, key, f"POST {scope['path']}", exchange.request_id)
    digest = _Digest(exchange)
    if job.status == COMPLETED:
        await digest.read_all()
        await _replay(exchange, job, digest.value)
        return
    answer = _Answer(send)
    renewing = asyncio.ensure_future(repeats.renew(job))
    kept = False
    try:
        await serve(digest.receive, answer.take)
        if answer.good:
            await digest.read_all()
            await repeats.served(job, to_json(answer.told(digest.value)))
            kept = True
    finally:
        renewing.cancel()
        if not kept:
            await repeats.refused(job)
    await answer.release()


async def _who(exchange: Exchange) -> str | None:
    """Whose keys are told apart from others': a virtual key's, or an address's that administers without one."""
    presented = presented_key(exchange)
    if presented is not None or exchange.house.settings.document.auth.mode == "none":
        return (await exchange.house.keyring.authenticate(presented, None)).key_id
    return f"address {caller_address(exchange)}" if is_trusted(exchange) else None


async def _replay(exchange: Exchange, job: Job, digest: str) -> None:
    kept: dict[str, Any] = parse(job.result)
    if kept["digest"] != digest:
        raise KeyReused("This Idempotency-Key was used for another request: send a new key with a new request.")
    if "body" not in kept:
        raise AnswerNotKept(
            "The request with this Idempotency-Key was served; its answer holds a secret, or is too long, and is told"
            " once. If it never arrived, look for what it made and remove that."
        )
    headers: RawHeaders = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in kept["headers"]]
    body = b64decode(kept["body"])
    await exchange.start(kept["status"], [*headers, (b"content-length", b"%d" % len(body)), REPLAYED])
    await exchange.write(body, more=False)


class _Digest:
    """Hashes a request while it is read: its address first, then its body as it comes.

    What stands between the parts of a form is drawn by lot each time that it is sent, and left out.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._hash = sha256(exchange.scope["path"].encode() + b"?" + exchange.scope["query_string"] + b"\0")
        form = _BOUNDARY.search(exchange.header(b"content-type") or "")
        self._boundary = b"--" + form[1].encode("latin-1") if form else b""
        self._held = b""
        self._over = False

    @property
    def value(self) -> str:
        return self._hash.hexdigest()

    async def receive(self) -> Message:
        """The next part of the body, noted."""
        message = await self._exchange.receive()
        if message["type"] == "http.request":
            self._over = not message.get("more_body", False)
            self._note(message.get("body", b""))
        return message

    async def read_all(self) -> None:
        """Note what nobody has read. Raises ``ClientLeft``."""
        while not self._over:
            if (await self.receive())["type"] == "http.disconnect":
                raise ClientLeft

    def _note(self, data: bytes) -> None:
        if self._boundary:
            data = (self._held + data).replace(self._boundary, b"")
            end = len(data) if self._over else max(len(data) - len(self._boundary) + 1, 0)
            data, self._held = data[:end], data[end:]  # what may be the beginning of a boundary waits for the rest
        self._hash.update(data)


class _Answer:
    """Holds an answer back until it is kept; one that is too long goes on its way."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._held: list[Message] = []
        self._size = 0
        self._start: Message = {}

    @property
    def good(self) -> bool:
        status: int = self._start.get("status", 0)
        return status // 100 == 2

    async def take(self, message: Message) -> None:
        """One message of the answer."""
        if message["type"] == "http.response.start":
            self._start = message
        self._size += len(message.get("body", b""))
        self._held.append(message)
        if self._size > LARGEST:
            await self.release()

    async def release(self) -> None:
        """Send what is held."""
        held, self._held = self._held, []
        for message in held:
            await self._send(message)

    def told(self, digest: str) -> dict[str, Any]:
        """What a repeat is told."""
        headers = [(name.lower(), value) for name, value in self._start.get("headers", ())]
        kept: dict[str, Any] = {"digest": digest, "status": self._start["status"]}
        secret = any(name == b"cache-control" and b"no-store" in value for name, value in headers)
        if secret or self._size > LARGEST:
            return kept
        body = b"".join(message.get("body", b"") for message in self._held)
        told = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers if name in KEPT]
        return kept | {"headers": told, "body": b64encode(body).decode()}
