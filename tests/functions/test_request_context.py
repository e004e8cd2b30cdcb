"""Who calls: the adapter's x-amzn-request-context is believed in the streaming door, and nowhere else.

What ``/health`` tells shows whom the gateway takes its caller for: a stranger learns ``status`` and ``version`` alone.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock import settings
from penstock.app import App
from penstock.bootstrap import build
from tests.functions import adapter, doors, runtime_api

STRANGER = "93.184.215.14"
INSIDE = "10.1.2.3"


def context(address: str) -> str:
    """The header as the adapter writes it: API Gateway's request context as JSON."""
    return json.dumps({"stage": "live", "identity": {"sourceIp": address}})


def takes_for_stranger(health: dict[str, Any]) -> bool:
    return set(health) == {"status", "version"}


def asked(environ: dict[str, str], peer: str, claimed: str) -> dict[str, Any]:
    """What /health answers to a peer that sends the header with another address."""

    async def ask() -> Any:
        app = App(lambda: build(settings.load(environ)))
        transport = httpx.ASGITransport(app, client=(peer, 50000))
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            answer = await client.get("/health", headers={"x-amzn-request-context": context(claimed)})
        await app.close()
        return answer.json()

    answer: dict[str, Any] = asyncio.run(ask())
    return answer


@pytest.mark.parametrize("door", ["", "http_api"])
def test_a_stranger_who_claims_to_be_inside_is_not_believed(given: dict[str, str], door: str) -> None:
    assert takes_for_stranger(asked({**given, "PENSTOCK_DOOR": door}, peer=STRANGER, claimed=INSIDE))


@pytest.mark.parametrize("door", ["", "http_api"])
def test_a_neighbour_is_one_whatever_the_header_claims(given: dict[str, str], door: str) -> None:
    assert not takes_for_stranger(asked({**given, "PENSTOCK_DOOR": door}, peer=INSIDE, claimed=STRANGER))


@pytest.mark.timeout(900)  # where cargo must build the adapter first, it takes minutes
def test_behind_the_adapter_the_gateways_word_counts(given: dict[str, str], tmp_path: Path) -> None:
    program = adapter.find()
    with runtime_api.serve() as api, doors.streaming(program, api, given, tmp_path / "log") as door:
        assert takes_for_stranger(health_told(door, STRANGER))
        assert not takes_for_stranger(health_told(door, INSIDE))
        assert takes_for_stranger(health_told(door, STRANGER, forged=INSIDE))


def health_told(door: doors.Door, address: str, forged: str | None = None) -> dict[str, Any]:
    """What /health answers when API Gateway names this caller, who may have sent the adapter's header itself."""
    event = doors.event("http_api_health")
    event["requestContext"]["identity"]["sourceIp"] = address
    if forged:
        event["headers"]["X-Amzn-Request-Context"] = context(forged)
        event["multiValueHeaders"]["X-Amzn-Request-Context"] = [context(forged)]
    answer: dict[str, Any] = json.loads(door.invoke(event).wait().body)
    return answer
