"""moto's services without a socket, behind the shape of Penstock's HTTP client."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from moto.moto_server.werkzeug_app import create_backend_app
from werkzeug.test import Client


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that has come already."""

    status: int
    body: bytes

    async def read(self) -> bytes:
        """The whole body."""
        return self.body


class InProcess:
    """A client whose every request is one call of moto's WSGI application for a service."""

    service = "dynamodb"

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        deadline: float,
        connect_timeout: float = 5.0,
    ) -> Answer:
        """Answer at once; time plays no part."""
        response = _moto(self.service).open("/", base_url=url, method=method, headers=list(headers), data=body)
        return Answer(response.status_code, response.get_data())

    async def aclose(self) -> None:
        """There is nothing to close."""


@cache
def _moto(service: str) -> Client:
    return Client(create_backend_app(service))
