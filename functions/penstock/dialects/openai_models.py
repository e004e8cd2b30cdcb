"""``GET /v1/models`` and ``/v1/models/{id}``: https://platform.openai.com/docs/api-reference/models"""

from __future__ import annotations

import time
from typing import Any

from penstock.core.cards import Offer, merged
from penstock.core.routing.condition import condition, down
from penstock.core.routing.place import Place
from penstock.dialects._exchange import LazyRouter
from penstock.dialects._guard import Here, Limited
from penstock.dialects._places import described
from penstock.errors import ModelNotFound
from penstock.house import House
from penstock.schema.classification_section import AliasSection
from penstock.schema.key import Caller

STARTED = int(time.time())
router = LazyRouter()


@router.get("/models", summary="The same as /v1/models")
@router.get("/v1/models", summary="List the models that this key may use")
async def list_models(house: Here, caller: Limited) -> dict[str, Any]:
    """Every public model, whoever serves it; those whose every provider is down are left out. The names that stand for
    several come first.
    """
    found = await house.registry.offers(caller)
    house.gateway.router.look()
    there = (offers for offers in found.values() if not down(_places(house, offers)))
    listed = [_entry(house, offers) for offers in there]
    named = {entry["id"] for entry in listed}
    aliases = _aliases(house, caller)
    told = [_alias(house, name, section, named) for name, section in sorted(aliases.items())]
    return {"object": "list", "data": told + [entry for entry in listed if entry["id"] not in aliases]}


@router.get("/models/{model:path}", summary="The same as /v1/models/{model}")
@router.get("/v1/models/{model:path}", summary="Describe one model")
async def retrieve_model(model: str, house: Here, caller: Limited) -> dict[str, Any]:
    """One public model; its id may hold slashes."""
    found = await house.registry.offers(caller)
    if section := _aliases(house, caller).get(model):
        return _alias(house, model, section, set(found))
    offers = found.get(model)
    if offers is None:
        raise ModelNotFound(f"The model {model!r} does not exist here, or you may not use it.", param="model")
    return _entry(house, offers)


def _aliases(house: House, caller: Caller) -> dict[str, AliasSection]:
    section = house.settings.document.classification
    return {name: alias for name, alias in section.aliases.items() if caller.may_use(name)} if section else {}


def _alias(house: House, name: str, section: AliasSection, there: set[str]) -> dict[str, Any]:
    """A name that stands for models: it is as well as its tiers are."""
    well = [any(model in there for model in models) for models in section.tiers.values()]
    return {
        "id": name,
        "object": "model",
        "created": STARTED,
        "owned_by": "penstock",
        "provider_type": "classifier",
        "status": "healthy" if all(well) else "degraded" if any(well) else "unhealthy",
        "enabled": True,
        "forced": False,
        "classifier": section.classifier,
        "tiers": {tier: [model for model in models if model in there] for tier, models in section.tiers.items()},
        "providers": [],
    }


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
