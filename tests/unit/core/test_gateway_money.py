"""What a request is charged for when its attempts fail, and what it may not begin any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from penstock.core.gateway import Gateway
from penstock.core.limits.limiter import Limiter
from penstock.core.limits.terms import Plan
from penstock.core.metering import Ledger
from penstock.core.ports import Answer, Call
from penstock.core.prices import Catalog
from penstock.core.registry import ModelRegistry
from penstock.core.routing.router import Router
from penstock.errors import NoDeploymentAvailable, PermissionDenied, UpstreamProtocolError, UpstreamTimeout
from penstock.errors import UpstreamUnavailable as Unavailable
from penstock.schema.config import PriceRow
from penstock.schema.key import Caller
from penstock.schema.limit import Budget
from penstock.schema.model import Deployment
from penstock.schema.outcome import Outcome
from penstock.schema.request import CHAT, Request
from tests.unit.core.limits.meters import MeterStore
from tests.unit.memory import MemoryStore

ANSWER = {
    "model": "m",
    "choices": [{"message": {"content": "Hi"}}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 2},
}
PRICES = [PriceRow("paid", input=1.0, output=2.0)]
BOUND = (100 + 256) * 1000 + 50 * 2000
"""Nano-dollars that the request below may cost at most: a body of 100 bytes, and 50 tokens of answer."""
COST = 7 * 1000 + 2 * 2000


class Upstream:
    """A connection whose plain calls end as they are told to, one after the other."""

    def __init__(self, *ends: Exception | dict[str, Any]) -> None:
        self.ends = list(ends)
        self.calls = 0

    async def complete(self, call: Call) -> Answer:
        end = self.ends[self.calls]
        self.calls += 1
        if isinstance(end, Exception):
            raise end
        return Answer(b"{}", dict(end))

    async def stream(self, call: Call) -> AsyncGenerator[list[bytes], None]:
        yield []


class Room:
    """A gateway whose caller has a budget, and places that are tried one after the other."""

    def __init__(self, total: int, *upstreams: Upstream, provider: str = "paid") -> None:
        self.upstreams = {f"p{number}": each for number, each in enumerate(upstreams)}
        places = [
            Deployment(name, "m", provider, "openai", "m", "http://x", priority=number)
            for number, name in enumerate(self.upstreams)
        ]
        registry = ModelRegistry(MemoryStore(), places, [], lambda place: self.upstreams[place.id])  # type: ignore[arg-type,return-value]
        self.store = MeterStore()
        self.told: list[Outcome] = []
        self.ledger = Ledger(MemoryStore(), tell=self.told.extend)  # type: ignore[arg-type]
        plan = Plan(key_budget=Budget(total=total / 1e9))
        self.limiter = Limiter(self.store, plan)  # type: ignore[arg-type]
        self.gateway = Gateway(registry, Router(), self.ledger, self.limiter, Catalog(PRICES))

    async def ask(self) -> bytes:
        deadline = asyncio.get_running_loop().time() + 20
        body = {"model": "m", "messages": [], "max_tokens": 50}
        return await self.gateway.complete(Request("req", CHAT, "m", body, False, Caller("k"), deadline, size=100))

    async def spent(self) -> int:
        """Nano-dollars on the key's meter once all is settled, which the ledger must agree with."""
        await self.limiter.close()
        await self.ledger.close()
        assert not self.store.kept.meter("key#k").holds
        [outcome] = self.told
        spent = self.store.kept.meter("key#k").spent["total"]
        assert outcome.cost_nanos == spent
        return spent


async def test_an_answer_costs_what_the_provider_counted() -> None:
    room = Room(10**9, Upstream(ANSWER))
    await room.ask()
    assert await room.spent() == COST


@pytest.mark.parametrize("error", [UpstreamTimeout("x"), UpstreamProtocolError("cut")], ids=repr)
async def test_every_attempt_whose_end_nobody_knows_is_paid_as_reserved(error: Exception) -> None:
    room = Room(10**9, Upstream(error), Upstream(error))
    with pytest.raises(NoDeploymentAvailable):
        await room.ask()
    assert await room.spent() == 2 * BOUND


async def test_an_attempt_that_may_have_cost_all_is_paid_before_the_next_one() -> None:
    room = Room(10**9, Upstream(UpstreamTimeout("x")), Upstream(ANSWER))
    await room.ask()
    assert await room.spent() == BOUND + COST


async def test_where_there_is_not_enough_for_another_there_is_no_other() -> None:
    first, second = Upstream(UpstreamTimeout("x")), Upstream(ANSWER)
    room = Room(BOUND + COST, first, second)
    with pytest.raises(UpstreamTimeout):
        await room.ask()
    assert (first.calls, second.calls) == (1, 0)
    assert await room.spent() == BOUND


async def test_an_attempt_that_failed_before_it_began_costs_nothing() -> None:
    room = Room(BOUND, Upstream(Unavailable("refused")), Upstream(ANSWER))
    await room.ask()
    assert await room.spent() == COST


async def test_a_model_without_a_price_is_not_called_on_a_budget() -> None:
    upstream = Upstream(ANSWER)
    room = Room(10**9, upstream, provider="unknown")
    with pytest.raises(PermissionDenied):
        await room.ask()
    assert upstream.calls == 0
    await room.ledger.close()
    assert [outcome.cost_nanos for outcome in room.told] == [0], "what reached nobody cost nothing"
