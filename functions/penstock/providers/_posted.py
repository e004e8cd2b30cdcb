"""Engines that nobody can call: what their workers post is read as if it had come over the wire, by the same code."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from penstock import plugs
from penstock.core.ports import Call, Connection, Posted
from penstock.errors import UpstreamTimeout, UpstreamUnavailable
from penstock.outbound import Headers, HttpClient, Response, Target
from penstock.providers._profiles import PROFILES, Profile
from penstock.schema.model import Deployment
from penstock.schema.request import CHAT

NOWHERE = "http://worker.invalid/v1"


class Letters:
    """A ``Correspondence`` with engines that speak OpenAI's wire, as all do that have a worker."""

    def written(self, place: Deployment, call: Call) -> dict[str, Any]:
        """The body as the place shall see it."""
        body: dict[str, Any] = _engine(place, Posted()).written(call)
        return body

    def bound(self, place: Deployment, call: Call) -> str | None:
        """The field of the body that holds a bound which the house has put on the answer, if it has."""
        if call.cap is None:
            return None
        return _profile(place).cap if call.endpoint == CHAT else "max_tokens"

    def read(self, place: Deployment, posted: Posted) -> Connection:
        """A connection that answers what was posted."""
        connection: Connection = _engine(place, posted)
        return connection


def _profile(place: Deployment) -> Profile:
    return PROFILES.get(place.kind, PROFILES["openai"])


def _engine(place: Deployment, posted: Posted) -> Any:
    """OpenAI's wire to such an engine: always a stream, where there can be one."""
    profile = replace(_profile(place), always_stream=True)
    return plugs.load("providers", "openai").OpenAI(replace(place, base_url=NOWHERE), _Mailbox(posted, place), profile)


class _Mailbox(HttpClient):
    """Answers the one call with what was posted, and knows nothing else."""

    def __init__(self, posted: Posted, place: Deployment) -> None:
        super().__init__()
        self._posted = posted
        self._place = place

    async def send(
        self,
        target: Target,
        body: bytes,
        *,
        request_id: str = "",
        trace: Headers = (),
        deadline: float,
        connect_timeout: float = 5.0,
    ) -> Response:
        """The answer, or what became of it."""
        if not body:
            return _Letter(Posted(404), self._place)
        letter = _Letter(self._posted, self._place)
        if not self._posted.status:
            letter.fail()
        return letter


class _Letter(Response):
    """An answer of which nothing is still on its way."""

    __slots__ = ("_left", "_place", "_posted")

    def __init__(self, posted: Posted, place: Deployment) -> None:
        self.status = posted.status
        self._posted = posted
        self._place = place
        self._left = posted.body

    @property
    def headers(self) -> dict[str, str]:
        """What is known of them."""
        return {"content-type": self._posted.content_type}

    async def chunk(self) -> bytes:
        """All of the body; then its end, or what happened in its place."""
        left, self._left = self._left, b""
        if not left and self._posted.trouble:
            self.fail()
        return left

    def fail(self) -> None:
        """Raise what ended the call."""
        name = self._place.provider
        if self._posted.trouble == "stopped":
            raise asyncio.CancelledError
        if self._posted.trouble == "timeout":
            raise UpstreamTimeout(f"{name} was not done in time", provider=name)
        raise UpstreamUnavailable(f"{name} has lost its engine", provider=name)

    def close(self) -> None:
        """Nothing is held."""
