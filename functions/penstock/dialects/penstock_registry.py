"""What there is, and how it is: ``POST /v1/registry/refresh``, ``GET /services``, ``GET /stats``."""

from __future__ import annotations

import asyncio
import platform
import time
from dataclasses import replace
from typing import Any

from penstock.core.routing.condition import UNHEALTHY, condition
from penstock.dialects._exchange import LazyRouter
from penstock.dialects._guard import Here, Inference, Limited
from penstock.dialects._places import by_provider
from penstock.hardware import host_gpus
from penstock.schema.model import ModelCard

router = LazyRouter(tags=["registry"])


@router.post("/v1/registry/refresh", summary="Look for models and hardware again")
async def refresh(house: Here, caller: Limited) -> dict[str, Any]:
    """Ask every provider for its models, and answer what changed, and who did not answer. The hardware is what workers
    say they have, and the GPUs of the machine that answers.
    """
    before = {card.id: card for card in await house.registry.cards()}
    registry, gpus = await asyncio.gather(house.registry.ask(), host_gpus())
    after = {card.id: card for card in await house.registry.cards()}
    now = time.time()
    workers = [worker for worker in await house.fleet.workers() if worker.routable(now)] if house.fleet.exists else []
    return {
        "status": "refreshed",
        "version": registry.version,
        "models": list(after),
        "added": [name for name in after if name not in before],
        "removed": [name for name in before if name not in after],
        "changed": [name for name, card in after.items() if name in before and _differ(card, before[name])],
        "failed": [{"provider": name, "error": error} for name, error in sorted(house.registry.problems.items())],
        "hardware": [
            *({"host": platform.node(), "gpu": each.gpu, "memory": each.memory, "count": each.count} for each in gpus),
            *(
                {"worker": worker.id, "gpu": worker.gpu, "memory": worker.gpu_memory, "count": worker.gpus}
                for worker in workers
            ),
        ],
    }


def _differ(card: ModelCard, before: ModelCard) -> bool:
    """Whether something else is said of a model than before; when it was made may be a moment ago each time."""
    return replace(card, created=0) != replace(before, created=0)


@router.get("/services", summary="Places that answer")
async def services(house: Here, caller: Inference) -> dict[str, Any]:
    """Each place with its address and models."""
    found = await by_provider(house)
    listed = [
        {
            "name": name,
            "url": places[0].deployment.base_url,
            "healthy": condition(places) != UNHEALTHY,
            "models": sorted({place.deployment.model for place in places}),
        }
        for name, places in found.items()
    ]
    return {"services": listed, "total": len(listed)}


@router.get("/stats", summary="What this process has asked of each place")
async def stats(house: Here, caller: Inference) -> dict[str, Any]:
    """Calls, failures and the mean time of an answer, in seconds; counted by this process since its start."""
    found = await by_provider(house)
    listed = [
        {
            "name": name,
            "healthy": condition(places) != UNHEALTHY,
            "request_count": sum(place.calls for place in places),
            "error_count": sum(place.failures for place in places),
            "response_time": _mean([place.seconds for place in places]),
        }
        for name, places in found.items()
    ]
    healthy = sum(bool(service["healthy"]) for service in listed)
    return {"total_services": len(listed), "healthy_services": healthy, "services": listed}


def _mean(seconds: list[float | None]) -> float | None:
    known = [each for each in seconds if each is not None]
    return round(sum(known) / len(known), 6) if known else None
