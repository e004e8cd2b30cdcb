"""Providers, what models they have, and which of these are served: ``/providers``, ``/v1/providers/…``."""

from __future__ import annotations

import time
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from penstock.core.cards import Offer, completed
from penstock.core.keys import record_act
from penstock.core.routing.condition import UNHEALTHY, condition
from penstock.core.routing.place import Place
from penstock.dialects._exchange import LazyRouter
from penstock.dialects._guard import Administrator, Here, Inference, Limited
from penstock.dialects._places import by_provider, described
from penstock.errors import InvalidRequest, ModelNotFound, UpstreamUnavailable
from penstock.house import House
from penstock.schema.key import Caller
from penstock.schema.model import Selection

router = LazyRouter(tags=["registry"])

Name = Annotated[str, Field(min_length=1, max_length=200)]


class SelectionFields(BaseModel):
    """What is served of a provider: ``selected_model``, or several ``selected_models``; all where both are ``null`` or
    left out. ``priority`` stands in the place of the provider's, ``max_tokens`` and ``temperature`` hold for requests
    that name none. With ``editable`` off, the next change must say ``"editable": true``.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    selected_model: Name | None = None
    selected_models: Annotated[list[Name], Field(min_length=1, max_length=1000)] | None = None
    editable: bool | None = None
    priority: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None

    def names(self) -> list[str]:
        """The models that are served. Raises ``InvalidRequest`` if they are named in two ways."""
        if self.selected_model is not None and self.selected_models is not None:
            raise InvalidRequest("Send either selected_model or selected_models.", param="selected_models")
        return [self.selected_model] if self.selected_model is not None else list(self.selected_models or ())


@router.get("/providers", summary="Providers and how they are")
@router.get("/v1/providers", summary="Providers and how they are")
async def providers(house: Here, caller: Inference) -> dict[str, Any]:
    """Each provider with its models, as this process knows it; those of the configuration that are off as well."""
    found = [_provider(name, places) for name, places in (await by_provider(house)).items()]
    off = [
        {"name": provider.name, "type": provider.type, "status": "disabled", "enabled": False}
        for provider in house.settings.document.providers or ()
        if not provider.enabled
    ]
    return {"object": "list", "data": [*found, *off]}


@router.get("/v1/providers/{provider}/models", summary="What models a provider has")
async def provider_models(provider: str, house: Here, caller: Inference) -> dict[str, Any]:
    """Each of them, those included that are not served because others were selected."""
    return await _listed(house, provider, caller)


@router.post("/v1/providers/{provider}/models/refresh", summary="Ask a provider for its models again")
async def refresh_models(provider: str, house: Here, caller: Limited) -> dict[str, Any]:
    """The list as the provider tells it now, and what of it is new or gone."""
    before = {offer.card.id for offer, _ in await house.registry.catalogue(provider, caller)}
    await house.registry.ask(provider)
    if provider in house.registry.problems:
        raise UpstreamUnavailable(
            f"{provider} did not list its models: {house.registry.problems[provider]}", provider=provider
        )
    told = await _listed(house, provider, caller)
    after = {entry["id"] for entry in told["data"]}
    return {**told, "cached": False, "added": sorted(after - before), "removed": sorted(before - after)}


@router.get("/v1/providers/{provider}/models/{model:path}", summary="Describe one model of a provider")
async def provider_model(provider: str, model: str, house: Here, caller: Inference) -> dict[str, Any]:
    """One model; its id may hold slashes."""
    for offer, served in await house.registry.catalogue(provider, caller):
        if offer.place.model == model:
            return _entry(house, offer, served)
    raise _unknown(provider, model, "model")


@router.get("/v1/providers/{provider}/model_selection", summary="Which models of a provider are served")
async def read_selection(provider: str, house: Here, caller: Inference) -> dict[str, Any]:
    """What was selected last."""
    await house.registry.catalogue(provider, caller)
    return _selection(house.registry.selection(provider))


@router.put("/v1/providers/{provider}/model_selection", summary="Choose which models of a provider are served")
async def select_models(provider: str, fields: SelectionFields, house: Here, actor: Administrator) -> dict[str, Any]:
    """Serve these models and no others; every process does so within 5 seconds, and a refresh changes nothing in it."""
    catalogue = await house.registry.catalogue(provider)
    if all(offer.place.pool for offer, _ in catalogue) and catalogue:
        raise InvalidRequest(f"Workers say themselves what they serve; {provider!r} has nothing to select.")
    names = fields.names()
    known = {offer.place.model for offer, _ in catalogue}
    for name in names:
        if name not in known:
            raise _unknown(provider, name, "selected_model" if fields.selected_model else "selected_models")
    chosen = Selection(
        provider=provider,
        models=tuple(names),
        editable=fields.editable is not False,
        priority=fields.priority,
        max_tokens=fields.max_tokens,
        temperature=fields.temperature,
        at=time.time(),
    )
    await record_act(house.store, actor, "select models", provider, ", ".join(names) or "all")
    await house.registry.select(chosen, unlock=fields.editable is True)
    return _selection(chosen)


async def _listed(house: House, provider: str, caller: Caller) -> dict[str, Any]:
    catalogue = await house.registry.catalogue(provider, caller)
    entries = [_entry(house, offer, served) for offer, served in catalogue]
    return {
        "object": "list",
        "data": entries,
        "provider": provider,
        "total": len(entries),
        "cached": True,
        "last_refresh": int(house.registry.refreshed_at) or None,
    }


def _entry(house: House, offer: Offer, served: bool) -> dict[str, Any]:
    card = completed(offer.card)
    well = condition([house.gateway.router.place(offer.place)]) != UNHEALTHY
    return {
        "id": offer.place.model,
        "object": "model",
        "created": card.created,
        "owned_by": offer.place.pool or offer.place.provider,
        "provider": offer.place.provider,
        "provider_type": offer.place.kind,
        "upstream": offer.place.upstream_model,
        "status": "inactive" if not served else "active" if well else UNHEALTHY,
        "enabled": served,
        "forced": offer.place.forced,
        **described(house, card, [offer]),
    }


def _selection(chosen: Selection) -> dict[str, Any]:
    return {
        "provider": chosen.provider,
        "selected_model": chosen.models[0] if len(chosen.models) == 1 else None,
        "selected_models": list(chosen.models) or None,
        "editable": chosen.editable,
        "priority": chosen.priority,
        "max_tokens": chosen.max_tokens,
        "temperature": chosen.temperature,
        "updated_at": int(chosen.at) or None,
    }


def _unknown(provider: str, model: str, param: str) -> ModelNotFound:
    where = f"GET /v1/providers/{provider}/models lists those that it has"
    return ModelNotFound(f"The provider {provider!r} has no model {model!r}; {where}.", param=param)


def _provider(name: str, places: list[Place]) -> dict[str, Any]:
    deployment = places[0].deployment
    return {
        "name": name,
        "type": deployment.kind,
        "status": condition(places),
        "enabled": True,
        "forced": deployment.forced,
        "priority": deployment.priority,
        "models": sorted({place.deployment.model for place in places}),
    }
