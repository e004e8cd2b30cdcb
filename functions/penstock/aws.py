"""The AWS identity of a process: aiodynamo's chain of credentials, asked over Penstock's own HTTP client.

Found, in this order, in the environment, in the credentials file, at a container's address or at the machine's own;
what expires is fetched anew some minutes before. Imported where AWS is spoken to, and nowhere else.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from aiodynamo.credentials import Credentials, Key, TooManyRetries
from aiodynamo.http.types import Request, RequestFailed, Response

from penstock.errors import UpstreamError, UpstreamUnavailable

if TYPE_CHECKING:
    from penstock.outbound import HttpClient

__all__ = ["Identity", "Key", "send"]

PATIENCE = 2.0
"""Seconds for one answer about credentials."""

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
