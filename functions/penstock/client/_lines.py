"""Who carries out the steps of a call: over the standard library's connections, or on an event loop."""

from __future__ import annotations

import asyncio
import http.client
import time
from typing import Any
from urllib.parse import urlsplit

from penstock.client._script import TIMEOUT, Ask, Head, Pause, Read, Step
from penstock.errors import UpstreamError
from penstock.outbound import HttpClient, Response
from penstock.schema.secret import Secret

DAY = 86_400.0


class Gateway:
    """Where a gateway is, and the key that it wants."""

    def __init__(self, base_url: str, api_key: str) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{base_url!r} is no http:// or https:// address")
        self.url = base_url.rstrip("/")
        self.tls, self.host, self.port, self.path = parts.scheme == "https", parts.hostname, parts.port, parts.path
        self._key = Secret(api_key)

    def headers(self, ask: Ask) -> list[tuple[str, str]]:
        """The headers of a request."""
        key = self._key.reveal()
        return [("content-type", "application/json"), *([("x-api-key", key)] if key else []), *ask.headers]


class Line:
    """Carries out steps, and waits; of one call after the other."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._connection: http.client.HTTPConnection | None = None
        self._response: http.client.HTTPResponse | None = None

    def carry_out(self, step: Step) -> Any:
        """Do a step; answers what came of it."""
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        try:
            return self._ask(step) if isinstance(step, Ask) else self._read()
        except (OSError, http.client.HTTPException) as error:
            why = f"{self._gateway.url} did not answer: {error or type(error).__name__}."
            return why if isinstance(step, Read) else Head(0, {}, why)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
        if self._response is not None:
            self._response.close()
        self._connection = self._response = None

    def _ask(self, ask: Ask) -> Head:
        self.close()
        gateway = self._gateway
        kind = http.client.HTTPSConnection if gateway.tls else http.client.HTTPConnection
        self._connection = kind(gateway.host, gateway.port, timeout=ask.patience)
        path = gateway.path.rstrip("/") + ask.path
        self._connection.request(ask.method, path, ask.body or None, dict(gateway.headers(ask)))
        response = self._response = self._connection.getresponse()
        return Head(response.status, {name.lower(): value for name, value in response.getheaders()})

    def _read(self) -> bytes:
        return self._response.read1(65_536) if self._response is not None else b""


class AsyncLine:
    """Carries out steps on an event loop."""

    def __init__(self, gateway: Gateway, client: HttpClient) -> None:
        self._gateway = gateway
        self._client = client
        self._response: Response | None = None
        self._patience = TIMEOUT

    async def carry_out(self, step: Step) -> Any:
        """Do a step; answers what came of it."""
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        try:
            async with asyncio.timeout(self._patience if isinstance(step, Read) else step.patience):
                return await self._ask(step) if isinstance(step, Ask) else await self._read()
        except (UpstreamError, TimeoutError) as error:
            why = f"{self._gateway.url} did not answer: {error or 'it took too long'}."
            return why if isinstance(step, Read) else Head(0, {}, why)

    def close(self) -> None:
        """Give the connection back, or close it in the middle of an answer."""
        if self._response is not None:
            self._response.close()
        self._response = None

    async def _ask(self, ask: Ask) -> Head:
        self.close()
        self._patience = ask.patience
        deadline = asyncio.get_running_loop().time() + DAY  # a stream may be long; silence is what ends it
        gateway = self._gateway
        self._response = response = await self._client.request(
            ask.method, gateway.url + ask.path, headers=gateway.headers(ask), body=ask.body, deadline=deadline
        )
        return Head(response.status, response.headers)

    async def _read(self) -> bytes:
        return await self._response.chunk() if self._response is not None else b""
