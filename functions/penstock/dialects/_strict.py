"""Routes of FastAPI's that read bodies as hot routes do: within the limit, and strictly."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from penstock.dialects._body import strictly
from penstock.dialects._exchange import Exchange


class StrictRequest(Request):
    """A request whose body is read once, within the limit; ``document`` is what it spells, once that is known."""

    document: dict[str, Any]

    async def body(self) -> bytes:
        """The whole body. Raises ``RequestTooLarge`` as soon as it is, ``ClientLeft`` if it never ends."""
        if not hasattr(self, "_body"):
            exchange: Exchange = self.scope["penstock.exchange"]
            self._body = await exchange.read(self.receive)
        return self._body

    async def json(self) -> dict[str, Any]:
        """What the body spells."""
        return self.document


class StrictRoute(APIRoute):
    """A route that takes no other JSON than the hot routes do, and refuses it in the same words."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What serves a request."""
        serve = super().get_route_handler()
        required = self.body_field is not None and self.body_field.field_info.is_required()

        async def strict(request: Request) -> Response:
            read = StrictRequest(request.scope, request.receive)
            if self.body_field is not None and ((data := await read.body()) or required):
                read.document = strictly(request.scope["penstock.exchange"], data)
            return await serve(read)

        return strict
