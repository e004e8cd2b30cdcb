"""What is known of providers and of a model at one of them, in the words that several routes share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from penstock.core.cards import Offer
from penstock.core.routing.place import Place
from penstock.house import House
from penstock.schema.model import ModelCard
from penstock.schema.price import dollars


async def by_provider(house: House) -> dict[str, list[Place]]:
    """What this process knows of every place, by its provider."""
    found: dict[str, list[Place]] = {}
    for deployment in await house.registry.places():
        found.setdefault(deployment.provider, []).append(house.gateway.router.place(deployment))
    return found


def described(house: House, card: ModelCard, offers: Iterable[Offer]) -> dict[str, Any]:
    """What is known of a model: its context and longest answer in tokens, what it can do, and dollars per million
    tokens at the first place whose price is known.
    """
    told: dict[str, Any] = {
        "context_window": card.context_window,
        "max_tokens": card.max_tokens,
        "capabilities": list(card.capabilities) or None,
        "pricing": next((price for offer in offers if (price := _pricing(house, offer))), None),
    }
    return {name: value for name, value in told.items() if value is not None}


def _pricing(house: House, offer: Offer) -> dict[str, float] | None:
    price = house.prices.price(offer.place)
    if price is None:
        return None
    cached = price.input if price.cached_input is None else price.cached_input
    named = {"input": price.input, "cached_input": cached, "output": price.output}
    return {name: dollars(nanos) for name, nanos in named.items()}
