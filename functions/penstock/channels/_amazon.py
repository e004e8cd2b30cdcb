"""Calls of AWS's own services, signed here and carried by Penstock's own HTTP client."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from penstock.errors import UpstreamUnavailable

if TYPE_CHECKING:
    from penstock.outbound import HttpClient

MOST = 64 * 1024
"""Bytes of an answer that are read."""
SHOWN = 200
"""Characters of an error that are passed on."""
CONNECT = 3.0


class Amazon:
    """One service in a region, or at an ``endpoint`` of one's own."""

    def __init__(self, name: str, host: str, region: str, endpoint: str | None, client: HttpClient) -> None:
        from penstock.aws import Identity, at_home  # noqa: PLC0415 - brings aiodynamo along

        self._name = name
        self._region = region
        self._base = (endpoint or f"https://{host}.{region}.amazonaws.com").rstrip("/")
        self._client = client
        self._identity = Identity(client, at_home() if endpoint else None)

    async def post(self, path: str, content_type: str, body: bytes, *, timeout: float) -> None:
        """Post to a path, within ``timeout`` seconds. Raises ``UpstreamError``."""
        from penstock.aws import signature  # noqa: PLC0415

        url, headers = self._base + path, {"content-type": content_type}
        deadline = asyncio.get_running_loop().time() + timeout
        key, now = await self._identity.key(), datetime.now(UTC)
        signed = signature("POST", url, headers, body, key=key, region=self._region, service=self._name, at=now)
        response = await self._client.request(
            *("POST", url),
            headers=[*headers.items(), *signed],
            body=body,
            deadline=deadline,
            connect_timeout=min(CONNECT, timeout),
        )
        said = (await response.read(MOST)).decode("utf-8", "replace")
        if response.status >= 300:
            if response.status == 403:
                self._identity.forget()
            raise UpstreamUnavailable(f"{self._name} answered {response.status}: {' '.join(said.split())[:SHOWN]}")
