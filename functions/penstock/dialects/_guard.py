"""Who may use the routes that FastAPI serves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request

from penstock.dialects._exchange import Exchange
from penstock.dialects._openai import presented_key
from penstock.house import House
from penstock.schema.key import INFERENCE, Caller


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


Here = Annotated[House, Depends(house_of)]
Inference = Annotated[Caller, Depends(guard(INFERENCE))]
