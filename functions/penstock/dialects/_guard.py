"""Who may use the routes that FastAPI serves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request

from penstock.core.limits.estimate import NOTHING
from penstock.dialects._address import caller_address, is_trusted
from penstock.dialects._exchange import Exchange
from penstock.dialects._presented import presented_key
from penstock.errors import PermissionDenied
from penstock.house import House
from penstock.schema.key import ADMIN, INFERENCE, Caller
from penstock.schema.request import MODELS
from penstock.schema.request import Request as Wanted


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
        raise PermissionDenied("Administer from a trusted network, or with a key of the scope 'admin'.")
    return (await exchange.house.keyring.authenticate(key, ADMIN)).key_id


async def limited(request: Request, caller: Annotated[Caller, Depends(guard(INFERENCE))]) -> Caller:
    """Admits an inference key's caller within its limits; the answer's headers tell how they stand."""
    exchange: Exchange = request.scope["penstock.exchange"]
    house = exchange.house
    wanted = exchange.request = Wanted(
        id=exchange.request_id,
        endpoint=MODELS,
        model="",
        body={},
        stream=False,
        caller=caller,
        deadline=asyncio.get_running_loop().time() + house.settings.document.request.timeout,
        address=caller_address(exchange),
    )
    reservation = await house.limiter.reserve(wanted, house.limiter.terms(wanted), NOTHING)
    house.limiter.settle(reservation, tokens=0, nanos=0)
    if reservation.holds:
        await house.limiter.settled()
    return caller


Administrator = Annotated[str, Depends(administrator)]
Here = Annotated[House, Depends(house_of)]
Inference = Annotated[Caller, Depends(guard(INFERENCE))]
Limited = Annotated[Caller, Depends(limited)]
