"""``GET /v1/models`` and ``/v1/models/{id}``: https://platform.openai.com/docs/api-reference/models"""

from __future__ import annotations

from typing import Any

from penstock.dialects._exchange import LazyRouter
from penstock.dialects._guard import Here, Limited
from penstock.errors import ModelNotFound
from penstock.schema.model import ModelCard

router = LazyRouter()


@router.get("/v1/models", summary="List the models that this key may use")
async def list_models(house: Here, caller: Limited) -> dict[str, Any]:
    """Every public model, whoever serves it."""
    return {"object": "list", "data": [_entry(card) for card in await house.registry.cards(caller)]}


@router.get("/v1/models/{model:path}", summary="Describe one model")
async def retrieve_model(model: str, house: Here, caller: Limited) -> dict[str, Any]:
    """One public model; its id may hold slashes."""
    for card in await house.registry.cards(caller):
        if card.id == model:
            return _entry(card)
    raise ModelNotFound(f"The model {model!r} does not exist here, or you may not use it.", param="model")


def _entry(card: ModelCard) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": card.id,
        "object": "model",
        "created": card.created,
        "owned_by": card.owned_by,
        "provider_type": card.provider_type,
        "enabled": True,
    }
    if card.context_window is not None:
        entry["context_window"] = card.context_window
    return entry
