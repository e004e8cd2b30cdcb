"""The way to one deployment behind a wire of its own: JSON documents out, answers in, bad ones told by their kind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar

from penstock.core.json import parse, write
from penstock.core.ports import Call
from penstock.errors import (
    InvalidRequest,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from penstock.outbound import Headers, HttpClient, Response, Target
from penstock.providers._faults import fault
from penstock.providers._profiles import Profile
from penstock.providers._relay import Opened
from penstock.schema.model import Deployment, ModelCard

T = TypeVar("T")

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


def parsed(body: bytes) -> Any:
    """A JSON document; ``None`` if it is none."""
    try:
        return parse(body)
    except ValueError:
        return None


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
        self._targets: dict[tuple[str, str], Target] = {}

    async def post(self, path: str, body: dict[str, Any], call: Call) -> Response:
        """The answer to a document, once its head says 200. Raises ``UpstreamError`` for every other."""
        data = write(body)
        deadline = min(call.deadline, asyncio.get_running_loop().time() + self.deployment.timeout)
        response = await self._client.send(
            await self._target("POST", path, data, deadline),
            data,
            request_id=call.request_id,
            trace=call.trace,
            deadline=deadline,
            connect_timeout=self.deployment.connect_timeout,
        )
        if response.status != 200:
            raise await self.failure(response)
        return response

    async def relay(self, call: Call, begin: Callable[[Call], Awaitable[Opened]]) -> AsyncGenerator[list[bytes], None]:
        """Batches of chunks of the stream that ``begin`` asks for, as they come. Raises ``UpstreamError``."""
        call.streamed = True
        patience = self.deployment.first_token_timeout
        by = None if patience is None else asyncio.get_running_loop().time() + patience
        response, cutter, reader, end = await (begin(call) if by is None else self._within(by, begin(call)))
        try:
            while not reader.done:
                data = await (response.chunk() if by is None else self._within(by, response.chunk()))
                batch, error = reader.read(cutter.feed(data) if data else cutter.last())
                call.payloads = reader.count
                if batch:
                    by = None
                    yield batch
                if error:
                    raise error
                if not data and not reader.done:
                    raise UpstreamProtocolError(f"{self.deployment.provider} ended the stream without {end}")
            await _finish(response)
        finally:
            response.close()

    async def _within(self, by: float, coming: Awaitable[T]) -> T:
        """What is waited for, if it comes before the time that the provider has for its first token is over."""
        try:
            async with asyncio.timeout_at(by):
                return await coming
        except TimeoutError:
            raise UpstreamTimeout(
                f"{self.deployment.provider} sent no token within {self.deployment.first_token_timeout:g} s",
                provider=self.deployment.provider,
            ) from None

    async def expect(self, response: Response, kind: str, judge: Callable[[Any], UpstreamError | None]) -> None:
        """Raise unless a 200 is a stream of this kind: its own error, where ``judge`` finds that it is one."""
        found = response.headers.get("content-type", "")
        if found.startswith(kind):
            return
        try:
            document = parse(await response.read(MAX_ERROR))
        except (ValueError, UpstreamProtocolError):
            document = None
        error = judge(document) if isinstance(document, dict) else None
        raise error or UpstreamProtocolError(
            f"{self.deployment.provider} answered a stream with content type {found or 'none'}"
        )

    async def get(self, path: str, deadline: float) -> dict[str, Any]:
        """The JSON object at a path."""
        return self.document(await self._read(path, deadline))

    async def _read(self, path: str, deadline: float) -> bytes:
        response = await self.look(path, deadline)
        if response.status != 200:
            raise await self.failure(response)
        return await response.read(MAX_LIST)

    async def look(self, path: str, deadline: float) -> Response:
        """The answer at a path, whatever its status."""
        target = await self._target("GET", path, b"", deadline)
        return await self._client.send(target, b"", deadline=deadline, connect_timeout=self.deployment.connect_timeout)

    async def listed(self, path: str, field: str, key: str, deadline: float) -> list[dict[str, Any]]:
        """The entries of a list of models at a path that have a name, their ``key``; Together's list is a bare one."""
        document = parsed(await self._read(path, deadline))
        entries = document.get(field) if isinstance(document, dict) else document
        if not isinstance(entries, list):
            raise UpstreamProtocolError(f"{self.deployment.provider} lists no models at {path}")
        return [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get(key), str)]

    def card(
        self, name: str, created: int, window: Any = None, longest: Any = None, able: tuple[str, ...] = ()
    ) -> ModelCard:
        """What is told of a model that the provider lists: its context, its longest answer, what it can do."""
        return ModelCard(
            id=name,
            owned_by=self.deployment.provider,
            provider_type=self.deployment.kind,
            created=created,
            upstream=name,
            context_window=window if isinstance(window, int) else None,
            max_tokens=longest if isinstance(longest, int) else None,
            capabilities=able,
        )

    def document(self, body: bytes) -> dict[str, Any]:
        """The JSON object that a 200 holds. Raises ``UpstreamProtocolError`` if it is none."""
        document = parsed(body)
        if not isinstance(document, dict):
            raise UpstreamProtocolError(f"{self.deployment.provider} answered 200 without a JSON object")
        return document

    def fault(self, status: int, body: bytes) -> UpstreamError:
        """What an error inside of a 200 stands for, were it to come with this status."""
        return fault(status, {}, body, self.deployment, self._profile)

    async def _target(self, method: str, path: str, body: bytes, deadline: float) -> Target:
        """Where a request goes, with its headers."""
        target = self._targets.get((method, path))
        if target is None:
            target = self._targets[method, path] = Target(
                method, self._base + path, self._headers, self.deployment.wire
            )
        return target

    async def failure(self, response: Response) -> UpstreamError:
        """What an answer stands for whose status is none of a success."""
        try:
            detail = await response.read(MAX_ERROR)
        except UpstreamProtocolError:
            detail = b""
        return fault(response.status, response.headers, detail, self.deployment, self._profile)


async def _finish(response: Response) -> None:
    """Read what little follows a stream's last piece, so that the connection can be used again."""
    try:
        async with asyncio.timeout(0.05):
            await response.read(1024)
    except (TimeoutError, UpstreamProtocolError, UpstreamUnavailable):
        response.close()
