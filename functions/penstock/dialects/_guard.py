"""Who may use the routes that FastAPI serves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request

from penstock.dialects._address import caller_address, is_trusted
from penstock.dialects._exchange import Exchange
from penstock.dialects._openai import presented_key
from penstock.errors import PermissionDenied
from penstock.house import House
from penstock.schema.key import ADMIN, INFERENCE, Caller


def house_of(request: Request) -> House:
    """The parts of this process."""
    house: House = request.scope["penstock.exchange"].house
    return house


def guard(scope: str) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency that admits callers whose key has this scope."""

    async def admitted(request: Request) -> Caller:
        exchange: Exchange = request.scope["penstock.exchange"]
        return await exchange.house.keyring.authenticate(presented_key(exchange), scope)

    return admitted


async def administrator(request: Request) -> str:
    """Who administers: the id of a key with the scope ``admin``, or the address of a caller from a trusted network.

    Raises ``PermissionDenied`` for everybody else who shows no key.
    """
    exchange: Exchange = request.scope["penstock.exchange"]
    if is_trusted(exchange):
        return f"address {caller_address(exchange)}"
    key = presented_key(exchange)
    if key is None or exchange.house.settings.document.auth.mode == "none":
        raise PermissionDenied("Keys are administered from trusted networks, or with a key of the scope 'admin'.")
    return (await exchange.house.keyring.authenticate(key, ADMIN)).key_id


Administrator = Annotated[str, Depends(administrator)]
Here = Annotated[House, Depends(house_of)]
Inference = Annotated[Caller, Depends(guard(INFERENCE))]
