"""``GET /metrics``: what this server has counted since its start, for Prometheus or as Proxy's JSON."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import Depends, Query, Request, Response

from penstock.core.families import Families, own
from penstock.core.json import to_json
from penstock.core.report import report, traffic_of
from penstock.dialects._address import is_trusted
from penstock.dialects._exchange import Exchange, LazyRouter, told_in
from penstock.dialects._guard import house_of
from penstock.dialects._presented import presented_key
from penstock.errors import PermissionDenied
from penstock.house import House
from penstock.schema.key import METRICS

router = LazyRouter(tags=["metrics"])

TEXTS = ("text/plain", "application/openmetrics-text")

STARTED = time.time()
USUAL, LONGEST = 3600.0, 92 * 86_400.0
"""Seconds that the ledger is asked for: where nobody says, and at most."""


async def observer(request: Request) -> None:
    """Admit callers from trusted networks, and keys with the scope ``metrics`` from anywhere."""
    exchange: Exchange = request.scope["penstock.exchange"]
    if is_trusted(exchange):
        return
    if exchange.house.settings.document.auth.mode == "none":
        raise PermissionDenied("Metrics are for trusted networks, or for a key of the scope 'metrics'.")
    await exchange.house.keyring.authenticate(presented_key(exchange), METRICS)


@router.get(
    "/metrics",
    dependencies=[Depends(observer)],
    summary="What was counted, for Prometheus or as JSON",
    response_class=Response,
    responses={200: told_in(*TEXTS, "application/json")},
)
async def metrics(request: Request, window: Annotated[float | None, Query(gt=0, le=LONGEST)] = None) -> Response:
    """Every counter, in Prometheus's text format; or, for who accepts ``application/json``, how the providers do.

    docs/metrics.md lists both. A server's JSON is of the time since its start, with ``window`` of so many seconds.
    """
    if wants_json(request.headers.get("accept", "")):
        return Response(to_json(await _report(house_of(request), window)), media_type="application/json")
    return _text(request)


@router.get(
    "/metrics/prometheus",
    dependencies=[Depends(observer)],
    summary="Counters in Prometheus's text format",
    response_class=Response,
    responses={200: told_in(*TEXTS)},
)
async def prometheus(request: Request) -> Response:
    """Every counter: docs/metrics.md lists them."""
    return _text(request)


def wants_json(accept: str) -> bool:
    """Whether JSON is asked for by name, and neither of Prometheus's formats is."""
    return "application/json" in accept and "text/plain" not in accept and "openmetrics" not in accept


async def _report(house: House, window: float | None) -> dict[str, Any]:
    """A function's own counters tell of itself alone: there the ledger is read, which all write."""
    vitals = house.vitals
    if window is None and not house.settings.door:
        since = STARTED if house.pool is None else house.pool.since
        return report(traffic_of(_families(house), since, time.time()), vitals.providers)
    return report(await vitals.traffic(window or USUAL), vitals.providers)


def _families(house: House) -> Families:
    return house.pool.gather() if house.pool is not None else own()


def _text(request: Request) -> Response:
    from penstock.dialects._exposition import expose  # noqa: PLC0415 - slow to import, and no part of any other answer

    text, content_type = expose(_families(house_of(request)), request.headers.get("accept", ""))
    return Response(text, headers={"content-type": content_type})
