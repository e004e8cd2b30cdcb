"""``GET /health``: whether this process can work; never needs a key, and tells strangers no more than that."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from fastapi import Request, Response

from penstock import __version__
from penstock.core.routing.condition import DEGRADED, HEALTHY, UNHEALTHY, condition
from penstock.core.routing.place import Place
from penstock.dialects._address import is_trusted
from penstock.dialects._exchange import LazyRouter
from penstock.dialects._guard import Here
from penstock.dialects._places import by_provider
from penstock.errors import StateError
from penstock.hardware import machine
from penstock.house import House

router = LazyRouter()

NONE = {"active": 0, "critical": 0, "warning": 0}
SCORES = {HEALTHY: 100.0, DEGRADED: 50.0, UNHEALTHY: 0.0}


@router.get("/health", summary="Whether this gateway can work")
async def health(house: Here, request: Request, response: Response) -> dict[str, Any]:
    """``healthy``; ``degraded`` while a provider is not; ``unhealthy``, with status 503, while the store is away."""
    began = time.perf_counter()
    shows_all = house.settings.document.auth.mode == "none" or is_trusted(request.scope["penstock.exchange"])
    alerts = NONE
    try:
        await house.store.ping()
        house.ledger.check()
        found = await by_provider(house)
        house.gateway.router.look()
        alerts = await house.alerts.counts() if shows_all else NONE
    except StateError:
        response.status_code = 503
        found = None
    conditions = {name: condition(places) for name, places in (found or {}).items()}
    status = UNHEALTHY if found is None else DEGRADED if {*conditions.values()} - {HEALTHY} else HEALTHY
    shown: dict[str, Any] = {"status": status, "version": __version__}
    if shows_all:
        shown |= {"alerts": alerts}
        shown |= _details(house, found or {}, conditions)
        shown |= {"health_score": _score(status, conditions), "response_time": time.perf_counter() - began}
    return shown


def _score(status: str, conditions: dict[str, str]) -> float:
    """Of 100 points: nothing without the store, else the mean of the providers."""
    if status == UNHEALTHY or not conditions:
        return SCORES[status]
    return round(sum(SCORES[each] for each in conditions.values()) / len(conditions), 1)


def _details(house: House, found: dict[str, list[Place]], conditions: dict[str, str]) -> dict[str, Any]:
    """What the documents of all earlier systems show; ``redis_connected`` is ``None`` without one."""
    now = time.time()
    serving = [place.deployment for name, places in found.items() if conditions[name] != UNHEALTHY for place in places]
    first = min(serving, key=lambda deployment: deployment.priority, default=None)
    models = sorted({deployment.model for deployment in serving})
    counts = Counter(conditions.values())
    system = machine()
    disabled = sum(not provider.enabled for provider in house.settings.document.providers or ())
    return {
        "router": "running",
        "app": asdict(house.settings.document.app),
        "timestamp": now,
        "timestamp_iso": datetime.fromtimestamp(now, UTC).isoformat(),
        "healthy_services": f"{len(conditions) - counts[UNHEALTHY]}/{len(conditions)}",
        "backend": first.kind if first else None,
        "model": first.model if first else None,
        "available_models": models,
        "model_loaded": bool(models),
        "redis_connected": house.caches.connected if house.caches is not None else None,
        "providers": {
            "total": len(conditions) + disabled,
            **{word: counts[word] for word in (HEALTHY, DEGRADED, UNHEALTHY)},
            "disabled": disabled,
        },
        "system": system,
        "checks": _checks(house, conditions, system["memory_percent"]),
    }


def _checks(house: House, conditions: dict[str, str], memory: float) -> dict[str, str]:
    """How each part is that the section ``health_check`` does not leave out."""
    told, document = house.settings.document.health_check, house.settings.document
    bound = document.memory.max_usage_percent if document.memory is not None else 100
    found = {
        "providers": min(conditions.values(), key=SCORES.__getitem__, default=HEALTHY),
        "context_service": HEALTHY if house.gateway.condenser is not None else "disabled",
        "memory": HEALTHY if memory <= bound else DEGRADED,
        "cache": HEALTHY if house.caches is not None else "disabled",
    }
    return {name: how for name, how in found.items() if getattr(told, name)}
