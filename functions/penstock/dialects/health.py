"""``GET /health``: whether this process can work; never needs a key, and tells strangers no more than that."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from fastapi import Request, Response

from penstock import __version__
from penstock.dialects._address import is_trusted
from penstock.dialects._exchange import LazyRouter
from penstock.dialects._guard import Here
from penstock.errors import StateError

router = LazyRouter()


@router.get("/health", summary="Whether this gateway can work")
async def health(house: Here, request: Request, response: Response) -> dict[str, Any]:
    """``healthy``, or ``unhealthy`` with status 503 while the store cannot answer."""
    began = time.perf_counter()
    try:
        await house.store.ping()
        house.ledger.check()
        status = "healthy"
    except StateError:
        status, response.status_code = "unhealthy", 503
    shown: dict[str, Any] = {"status": status, "version": __version__}
    if house.settings.document.auth.mode == "none" or is_trusted(request.scope["penstock.exchange"]):
        models = [card.id for card in await house.registry.cards()] if status == "healthy" else []
        now = time.time()
        shown |= {
            "router": "running",
            "timestamp": now,
            "timestamp_iso": datetime.fromtimestamp(now, UTC).isoformat(),
            "response_time": time.perf_counter() - began,
            "available_models": models,
            "model_loaded": bool(models),
        }
    return shown
