"""The way to one deployment behind a wire of its own: JSON documents out, answers in, bad ones told by their kind."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import Any

from penstock.core.json import parse, write
from penstock.core.ports import Call
from penstock.errors import InvalidRequest, UpstreamError, UpstreamProtocolError, UpstreamRefused, UpstreamUnavailable
from penstock.outbound import Headers, HttpClient, Response, Target
from penstock.providers._faults import fault
from penstock.providers._profiles import Profile
from penstock.schema.model import Deployment

MAX_ERROR = 64 * 1024
MAX_LIST = 4 * 1024 * 1024


def refused(message: str, param: str) -> UpstreamRefused:
    """What a caller is told who asks for what a vendor's wire has no words for; ``param`` names the field."""
    return UpstreamRefused(message, status=400, param=param, upstream_code=InvalidRequest.code)


def seconds(date: Any) -> int:
    """A date as seconds since 1970; now, where there is none or it is not known."""
    try:
        return int(datetime.fromisoformat(date).timestamp()) or int(time.time())
    except (TypeError, ValueError):
        return int(time.time())


class Line:
    """Posts to one deployment. ``headers`` go along with each call; the deployment's own stand in their place."""

    def __init__(
        self, deployment: Deployment, client: HttpClient, profile: Profile, base: str, headers: Headers
    ) -> None:
        self.deployment = deployment
        self._client = client
        self._profile = profile
        self._base = base
        own = {name.lower() for name, _ in deployment.headers}
        common = [("content-type", "application/json"), ("accept-encoding", "identity"), *headers]
        self._headers = (*(pair for pair in common if pair[0] not in own), *deployment.headers)
        self._targets: dict[str, Target] = {}

    async def post(self, path: str, body: dict[str, Any], call: Call) -> Response:
        """The answer to a document, once its head says 200. Raises ``UpstreamError`` for every other."""
        data = write(body)
        deadline = min(call.deadline, asyncio.get_running_loop().time() + self.deployment.timeout)
        response = await self._client.send(
            await self._target("POST", path, data, deadline),
            data,
            request_id=call.request_id,
            deadline=deadline,
            connect_timeout=self.deployment.connect_timeout,
        )
        if response.status != 200:
            raise await self._fault(response)
        return response

    async def get(self, path: str, deadline: float) -> dict[str, Any]:
        """The JSON object at a path."""
        response = await self._get(path, deadline)
        if response.status != 200:
            raise await self._fault(response)
        return self.document(await response.read(MAX_LIST))

    async def reach(self, deadline: float) -> None:
        """Return if somebody answers, whatever he says of a path that he need not know; raise for a 5xx."""
        response = await self._get("/", deadline)
        if response.status >= 500:
            raise await self._fault(response)
        response.close()

    async def _get(self, path: str, deadline: float) -> Response:
        target = await self._target("GET", path, b"", deadline)
        return await self._client.send(target, b"", deadline=deadline, connect_timeout=2.0)

    def document(self, body: bytes) -> dict[str, Any]:
        """The JSON object that a 200 holds. Raises ``UpstreamProtocolError`` if it is none."""
        try:
            document = parse(body)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise UpstreamProtocolError(f"{self.deployment.provider} answered 200 without a JSON object")
        return document

    def fault(self, status: int, body: bytes) -> UpstreamError:
        """What an error inside of a 200 stands for, were it to come with this status."""
        return fault(status, {}, body, self.deployment, self._profile)

    async def _target(self, method: str, path: str, body: bytes, deadline: float) -> Target:
        """Where a request goes, with its headers."""
        target = self._targets.get(path)
        if target is None:
            target = self._targets[path] = Target(method, self._base + path, self._headers)
        return target

    async def _fault(self, response: Response) -> UpstreamError:
        try:
            detail = await response.read(MAX_ERROR)
        except UpstreamProtocolError:
            detail = b""
        return fault(response.status, response.headers, detail, self.deployment, self._profile)

    async def finish(self, response: Response) -> None:
        """Read what little follows a stream's last event, so that the connection can be used again."""
        try:
            async with asyncio.timeout(0.05):
                await response.read(1024)
        except (TimeoutError, UpstreamProtocolError, UpstreamUnavailable):
            response.close()
