"""A webhook's receiver on loopback, which verifies what it is sent with the official package; and a caller's side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from standardwebhooks import Webhook

from penstock.core.jobs import runner
from penstock.core.keys import generate, new_key
from penstock.core.webhooks import courier
from tests.wire import upstream as upstreams
from tests.wire.gateway import KEY, Gateway, Reply, eventually
from tests.wire.upstream import Call, Upstream

ALLOWED = {"webhooks": {"allow_networks": ["127.0.0.0/8"], "allow_http": True, "timeout": 1, "per_key": 3}}
Json = dict[str, Any]


class Receiver:
    """Answers each message with the next of ``answers``, and then with 204; ``url`` is where it listens."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.headers: dict[str, str] = {}
        self.upstream: Upstream = None  # type: ignore[assignment]
        self.hold: asyncio.Event | None = None

    @property
    def url(self) -> str:
        """The address to register."""
        return self.upstream.url.removesuffix("/v1") + "/hook"

    @property
    def calls(self) -> list[Call]:
        """What came."""
        return self.upstream.calls

    async def answer(self, call: Call) -> None:
        """Answer as the test wants it."""
        if self.hold is not None:
            await self.hold.wait()
        status = self.answers.pop(0) if self.answers else 204
        call.answer(b"", status, Connection="close", **self.headers)

    async def verified(self, secret: str, number: int = 0) -> Any:
        """The message with this number, once it has come and its signature was found to be the secret's."""
        call = await self.upstream.call(number)
        return Webhook(secret).verify(call.body, call.headers)


@asynccontextmanager
async def serve() -> AsyncIterator[Receiver]:
    """Listen until the block ends."""
    receiver = Receiver()
    async with upstreams.serve(receiver.answer) as receiver.upstream:
        yield receiver


def hurry(patch: pytest.MonkeyPatch) -> None:
    """Let everything be tried again at once."""
    patch.setattr(runner, "BACKOFF", 0.01)
    patch.setattr(courier, "EVERY", 0.02)
    patch.setattr(courier, "REST", 0.0)
    patch.setattr(courier, "PAUSES", (0.01,) * 9)


async def ask(gateway: Gateway, method: str, path: str = "", body: Any = None, key: str = KEY) -> Reply:
    """Call a route under /v1/webhooks."""
    headers = {"authorization": f"Bearer {key}"}
    response = await gateway.client.request(method, f"/v1/webhooks{path}", json=body, headers=headers)
    return Reply(response.status_code, response.headers, response.content)


async def registered(gateway: Gateway, receiver: Receiver, **fields: Any) -> Json:
    """A new webhook, as its maker is told of it."""
    made = await ask(gateway, "POST", body={"url": receiver.url, **fields})
    assert made.status == 201, made.body
    document: Json = made.json
    return document


async def submit(gateway: Gateway, **body: Any) -> str:
    """Have a request answered later; answers the job's id."""
    request = gateway.request(body)
    request.headers["prefer"] = "respond-async"
    response = await gateway.client.send(request)
    assert response.status_code == 202, response.content
    job: str = response.json()["id"]
    return job


async def deliveries(gateway: Gateway, webhook: Json, query: str = "") -> list[Json]:
    """A webhook's log."""
    found: list[Json] = (await ask(gateway, "GET", f"/{webhook['id']}/deliveries{query}")).json["data"]
    return found


async def delivery(gateway: Gateway, webhook: Json, status: str) -> Json:
    """The newest delivery, once it has this status."""
    found: list[Json] = []

    async def is_so() -> bool:
        found[:] = await deliveries(gateway, webhook)
        return bool(found and found[0]["status"] == status)

    await eventually(is_so)
    return found[0]


async def another_key(gateway: Gateway) -> str:
    """A virtual key of somebody else's."""
    secret = generate()
    await gateway.house.store.create_key(new_key(secret))
    return secret.reveal()


async def has_ended(gateway: Gateway, job: str) -> bool:
    """Whether a job has its answer."""
    return (await gateway.client.get(f"/v1/jobs/{job}")).status_code == 200


async def run_one(gateway: Gateway) -> str:
    """Have a request answered later, and wait until it is; answers the job's id."""
    job = await submit(gateway)
    await eventually(lambda: has_ended(gateway, job))
    return job
