"""Which routes answer without a key, seen from outside: each one of the application's is called without."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from penstock import settings
from penstock.app import App
from penstock.bootstrap import build

# CONTRACT of the routes that never need a key; a line is added here with its reason, never by accident.
UNGUARDED = {
    "/health",  # probes have no key; a caller without one sees the status and the version alone
    "/docs",  # what the API looks like is public
    "/docs/oauth2-redirect",
    "/redoc",
    "/openapi.json",
}


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    config = tmp_path / "config.yaml"
    config.write_text("auth: {mode: keys}\nproviders: []\n", encoding="utf-8")
    told = settings.load({}, config=str(config), state=f"sqlite:///{tmp_path}/state.db")
    app = App(lambda: build(told))
    yield app
    await app.close()


def endpoints(app: App) -> set[tuple[str, str]]:
    """Every method and path that the application knows, hidden ones and mounted folders included."""
    return {
        (method, route.path or "/")
        for route in iter_route_contexts(app.api.routes)
        for method in getattr(route, "methods", None) or {"GET"}
    }


async def test_exactly_these_routes_answer_without_a_key(app: App) -> None:
    listed = endpoints(app)
    assert ("POST", "/v1/chat/completions") in listed, f"the hot routes are not among {sorted(listed)}"
    transport = httpx.ASGITransport(app, client=("203.0.113.9", 4711))  # an address that no network of ours trusts
    async with httpx.AsyncClient(transport=transport, base_url="http://penstock.test") as client:
        answered = set()
        for method, path in listed:
            answer = await client.request(method, re.sub(r"\{.*?\}", "x", path), content=b"{}")
            if answer.status_code not in (401, 403):
                answered.add(path)
    assert answered == UNGUARDED
