"""``POST /v1/classify``: which model a prompt would go to, and why, without calling one."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from pydantic import Field

from penstock.core.json import to_json
from penstock.core.limits.estimate import NOTHING
from penstock.dialects._address import caller_address
from penstock.dialects._body import read_body
from penstock.dialects._exchange import Exchange, WireRouter
from penstock.dialects._presented import presented_key
from penstock.errors import InvalidRequest, ModelNotFound, NotConfigured
from penstock.house import House
from penstock.schema.request import CHAT, COMPLETIONS, MODELS, Request
from penstock.schema.wire import Message, ModelName, Texts, Wire

USUAL = "auto"


class ClassifyBody(Wire):
    """A chat or a text completion as it would be sent, or just its ``prompt``. With ``ask`` models may be asked."""

    model: ModelName | None = None
    messages: Annotated[list[Message], Field(min_length=1)] | None = None
    prompt: Annotated[str, Field(min_length=1)] | Texts | None = None
    ask: bool = False


router = WireRouter(tags=["classification"])


async def classify(exchange: Exchange) -> None:
    """Tell which model would be chosen for a prompt, and why."""
    house = exchange.house
    caller = await house.keyring.authenticate(presented_key(exchange))
    asked = await read_body(exchange, ClassifyBody)
    request = Request(
        id=exchange.request_id,
        endpoint=MODELS,
        model="",
        body={name: value for name, value in asked.items() if name != "ask" and value is not None},
        stream=False,
        caller=caller,
        deadline=asyncio.get_running_loop().time() + house.settings.document.request.timeout,
        address=caller_address(exchange),
        size=exchange.size,
    )
    if ("messages" in request.body) == ("prompt" in request.body):
        raise InvalidRequest("messages: send these, or a 'prompt'.", param="messages")
    exchange.request = request
    reservation = await house.limiter.reserve(request, house.limiter.terms(request), NOTHING)
    house.limiter.settle(reservation, tokens=0, nanos=0)
    request.endpoint = CHAT if "messages" in request.body else COMPLETIONS
    request.model = _alias(house, request.body.get("model"))
    with exchange.watched():
        told = await _told(house, request, ask=asked.get("ask") is True)
    await house.gateway.settled(request)
    await exchange.json(200, to_json(told))


router.wire("/v1/classify", classify, body=ClassifyBody, summary="Tell which model a prompt would go to, and why")


def _alias(house: House, named: str | None) -> str:
    """The alias that is meant: ``auto``, or the only one there is, where none is named."""
    aliases = house.gateway.aliases
    if not aliases:
        raise NotConfigured("No aliases are configured here: name some under 'classification' in the configuration.")
    name = named or (next(iter(aliases)) if len(aliases) == 1 else USUAL)
    if name not in aliases:
        raise ModelNotFound(f"{name!r} is no alias here; there are {', '.join(sorted(aliases))}.", param="model")
    return name


async def _told(house: House, request: Request, *, ask: bool) -> dict[str, Any]:
    classification = house.gateway.classification
    assert classification is not None
    decision = await classification.decide(request, house.gateway if ask else None)
    return {"object": "classification", **decision.told()}
