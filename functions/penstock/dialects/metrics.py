"""``GET /metrics``: what this process has counted since its start, for Prometheus."""

from __future__ import annotations

from fastapi import Depends, Request, Response

from penstock.dialects._address import is_trusted
from penstock.dialects._exchange import Exchange, LazyRouter
from penstock.dialects._presented import presented_key
from penstock.errors import PermissionDenied
from penstock.schema.key import METRICS

router = LazyRouter(tags=["metrics"])


async def observer(request: Request) -> None:
    """Admit callers from trusted networks, and keys with the scope ``metrics`` from anywhere."""
    exchange: Exchange = request.scope["penstock.exchange"]
    if is_trusted(exchange):
        return
    if exchange.house.settings.document.auth.mode == "none":
        raise PermissionDenied("Metrics are for trusted networks, or for a key of the scope 'metrics'.")
    await exchange.house.keyring.authenticate(presented_key(exchange), METRICS)


@router.get("/metrics", dependencies=[Depends(observer)], summary="Counters in Prometheus's text format")
@router.get("/metrics/prometheus", dependencies=[Depends(observer)], summary="The same as /metrics")
async def metrics(request: Request) -> Response:
    """Every counter of this process: docs/metrics.md lists them."""
    from penstock.dialects._exposition import expose  # noqa: PLC0415 - slow to import, and no part of any other answer

    text, content_type = expose(request.headers.get("accept", ""))
    return Response(text, headers={"content-type": content_type})
