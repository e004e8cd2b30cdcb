"""Posts to addresses that callers have named: guarded, bounded, and telling them little of what it met."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import suppress

from penstock.core.ports import Reply
from penstock.errors import InvalidRequest, UpstreamError
from penstock.outbound import Headers, HttpClient
from penstock.outbound.guard import Guard
from penstock.outbound.retry_after import retry_after

MOST_READ = 16 * 1024
"""Bytes of an answer's body that are taken in, and forgotten, before the connection is cut."""


class GuardedOutlet:
    """An ``Outlet`` with connections of its own, none of which leads where the guard admits nobody."""

    def __init__(
        self, allow_networks: Sequence[str] = (), *, allow_http: bool = False, tls: ssl.SSLContext | None = None
    ) -> None:
        self._guard = Guard(allow_networks, allow_http=allow_http)
        self._client = HttpClient(tls=tls, guard=self._guard)

    def check(self, url: str) -> None:
        """Raise ``InvalidRequest`` for an address that may not be called."""
        try:
            self._guard.check(url)
        except ValueError as error:
            raise InvalidRequest(f"url: {error}.", param="url") from None

    async def post(self, url: str, headers: Headers, body: bytes, *, timeout: float) -> Reply:
        """Post once; the answer is its status, whatever becomes of its body. Raises ``UpstreamError``.

        Raises ``InvalidRequest`` for an address that may not be called.
        """
        self.check(url)
        deadline = asyncio.get_running_loop().time() + timeout
        response = await self._client.request(
            "POST", url, headers=headers, body=body, deadline=deadline, connect_timeout=timeout
        )
        after = retry_after(response.headers)
        with suppress(UpstreamError):
            await response.read(MOST_READ)
        return Reply(response.status, after)

    async def aclose(self) -> None:
        """Close every idle connection."""
        await self._client.aclose()
