"""Who a process is to AWS: aiodynamo's chain of credentials, asked over Penstock's own HTTP client, and signatures.

Found, in this order, in the environment, in the credentials file, at a container's address or at the machine's own;
what expires is fetched anew some minutes before. Imported where AWS is spoken to, and nowhere else.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from aiodynamo.credentials import Credentials, Key, TooManyRetries
from aiodynamo.http.types import Request, RequestFailed, Response

from penstock.errors import UpstreamError, UpstreamUnavailable

if TYPE_CHECKING:
    from penstock.outbound import HttpClient

__all__ = ["Identity", "Key", "send", "signature"]

PATIENCE = 2.0
"""Seconds for one answer about credentials."""
ALGORITHM = "AWS4-HMAC-SHA256"

# Its lines would hold bodies of requests, and tracebacks of every place where no credentials were found.
logging.getLogger("aiodynamo").setLevel(logging.CRITICAL)


async def send(client: HttpClient, request: Request, *, seconds: float, connect_timeout: float) -> Response:
    """What aiodynamo wants of an HTTP client. Raises its ``RequestFailed``."""
    try:
        response = await client.request(
            request.method,
            request.url,
            headers=list((request.headers or {}).items()),
            body=request.body or b"",
            deadline=asyncio.get_running_loop().time() + seconds,
            connect_timeout=connect_timeout,
        )
        return Response(response.status, await response.read())
    except UpstreamError as error:
        raise RequestFailed(error) from error


class Identity:
    """Who this process is to AWS; ``credentials`` stand in the place of the usual chain."""

    def __init__(self, client: HttpClient, credentials: Credentials | None = None) -> None:
        self._client = client
        self._credentials = credentials
        self._finding: asyncio.Task[Key | None] | None = None

    async def key(self) -> Key:
        """The key to sign with now. Who asks at once waits for the same answer. Raises ``UpstreamUnavailable``."""
        if self._credentials is None:
            self._credentials = Credentials.auto()
        if self._finding is None or self._finding.done():
            self._finding = asyncio.ensure_future(self._credentials.get_key(self._send))
            self._finding.add_done_callback(lambda task: task.cancelled() or task.exception())  # if all have left
        try:
            key = await asyncio.shield(self._finding)  # aiodynamo takes a caller's leaving for a failure of the place
        except (KeyError, TooManyRetries, UpstreamError, ValueError) as error:
            raise UpstreamUnavailable(f"AWS credentials cannot be fetched: {error or 'no answer'}") from None
        if key is None:
            raise UpstreamUnavailable(
                "there are no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or"
                " give the machine a role"
            )
        return key

    def forget(self) -> None:
        """Fetch a key anew that AWS no longer takes, where it can be."""
        if self._credentials is not None:
            self._credentials.invalidate()

    async def _send(self, request: Request) -> Response:
        return await send(self._client, request, seconds=PATIENCE, connect_timeout=PATIENCE)


def signature(
    method: str, url: str, headers: Mapping[str, str], body: bytes, *, key: Key, region: str, service: str, at: datetime
) -> list[tuple[str, str]]:
    """The headers that sign a request to ``url``, which is encoded as it will be sent, ``at`` a time in UTC (SigV4).

    ``headers`` are what is signed besides them and the host, by lower-case names.
    """
    stamp = at.strftime("%Y%m%dT%H%M%SZ")
    parts = urlsplit(url)
    dated = {"x-amz-date": stamp} | ({"x-amz-security-token": key.token} if key.token else {})
    told = {"host": parts.netloc.lower(), **headers, **dated}
    names = sorted(told)
    canonical = [
        method,
        quote(parts.path or "/", safe="/~"),  # encoded once more, as for every service but S3
        "&".join(sorted(parts.query.split("&"))),
        *(f"{name}:{' '.join(told[name].split())}" for name in names),
        "",
        ";".join(names),
        hashlib.sha256(body).hexdigest(),
    ]
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    digest = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
    proof = f"AWS4{key.secret}".encode()
    for word in (stamp[:8], region, service, "aws4_request", "\n".join((ALGORITHM, stamp, scope, digest))):
        proof = hmac.digest(proof, word.encode(), "sha256")
    said = f"{ALGORITHM} Credential={key.id}/{scope}, SignedHeaders={';'.join(names)}, Signature={proof.hex()}"
    return [*dated.items(), ("authorization", said)]
