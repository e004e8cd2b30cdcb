"""What there is: ``POST /v1/registry/refresh``, ``GET /providers``, ``GET /services``, ``GET /stats``."""

from __future__ import annotations

import time
from typing import Any

from penstock.core.routing.condition import UNHEALTHY, condition
from penstock.core.routing.place import Place
from penstock.dialects._exchange import LazyRouter
from penstock.dialects._guard import Here, Inference
from penstock.house import House

router = LazyRouter(tags=["registry"])


@router.post("/v1/registry/refresh", summary="Look for models and hardware again")
async def refresh(house: Here, caller: Inference) -> dict[str, Any]:
    """Ask every provider for its models, and answer what changed; the hardware is what workers say they have."""
    before = {card.id for card in await house.registry.cards()}
    registry = await house.registry.refresh()
    after = {card.id for card in await house.registry.cards()}
    now = time.time()
    workers = [worker for worker in await house.fleet.workers() if worker.routable(now)] if house.fleet.exists else []
    return {
        "status": "refreshed",
        "version": registry.version,
        "models": sorted(after),
        "added": sorted(after - before),
        "removed": sorted(before - after),
        "hardware": [
            {"worker": worker.id, "gpu": worker.gpu, "memory": worker.gpu_memory, "count": worker.gpus}
            for worker in workers
        ],
    }


@router.get("/providers", summary="Providers and how they are")
async def providers(house: Here, caller: Inference) -> dict[str, Any]:
    """Each provider with its models, as this process knows it; those of the configuration that are off as well."""
    found = [_provider(name, places) for name, places in (await _by_provider(house)).items()]
    off = [
        {"name": provider.name, "type": provider.type, "status": "disabled", "enabled": False}
        for provider in house.settings.document.providers or ()
        if not provider.enabled
    ]
    return {"object": "list", "data": [*found, *off]}


@router.get("/services", summary="Places that answer")
async def services(house: Here, caller: Inference) -> dict[str, Any]:
    """Each place with its address and models."""
    found = await _by_provider(house)
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
    found = await _by_provider(house)
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


async def _by_provider(house: House) -> dict[str, list[Place]]:
    found: dict[str, list[Place]] = {}
    for deployment in await house.registry.places():
        found.setdefault(deployment.provider, []).append(house.gateway.router.place(deployment))
    return found


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


def _mean(seconds: list[float | None]) -> float | None:
    known = [each for each in seconds if each is not None]
    return round(sum(known) / len(known), 6) if known else None
