"""``GET /v1/models`` and ``/v1/models/{id}``: https://platform.openai.com/docs/api-reference/models"""

from __future__ import annotations

from typing import Any

from penstock.core.cards import Offer, merged
from penstock.core.routing.condition import condition, down
from penstock.core.routing.place import Place
from penstock.dialects._exchange import LazyRouter
from penstock.dialects._guard import Here, Limited
from penstock.dialects._places import described
from penstock.errors import ModelNotFound
from penstock.house import House

router = LazyRouter()


@router.get("/v1/models", summary="List the models that this key may use")
async def list_models(house: Here, caller: Limited) -> dict[str, Any]:
    """Every public model, whoever serves it; those whose every provider is down are left out."""
    found = await house.registry.offers(caller)
    house.gateway.router.look()
    there = (offers for offers in found.values() if not down(_places(house, offers)))
    return {"object": "list", "data": [_entry(house, offers) for offers in there]}


@router.get("/v1/models/{model:path}", summary="Describe one model")
async def retrieve_model(model: str, house: Here, caller: Limited) -> dict[str, Any]:
    """One public model; its id may hold slashes."""
    offers = (await house.registry.offers(caller)).get(model)
    if offers is None:
        raise ModelNotFound(f"The model {model!r} does not exist here, or you may not use it.", param="model")
    return _entry(house, offers)


def _entry(house: House, offers: list[Offer]) -> dict[str, Any]:
    card = merged(offers)
    return {
        "id": card.id,
        "object": "model",
        "created": card.created,
        "owned_by": card.owned_by,
        "provider_type": card.provider_type,
        "status": condition(_places(house, offers)),
        "enabled": True,
        "forced": any(offer.place.forced for offer in offers),
        **described(house, card, offers),
        "providers": list(dict.fromkeys(offer.place.provider for offer in offers)),
    }


def _places(house: House, offers: list[Offer]) -> list[Place]:
    return [house.gateway.router.place(offer.place) for offer in offers]
