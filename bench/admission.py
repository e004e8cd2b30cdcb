"""What limits cost by themselves: µs of CPU to admit and settle one request in process, over a store in memory."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from bench.subjects import ROOT

sys.path.insert(0, str(ROOT / "functions"))

from penstock.core.limits.estimate import need_of
from penstock.core.limits.limiter import Limiter
from penstock.core.limits.terms import Plan
from penstock.schema.key import Caller
from penstock.schema.limit import Budget, Limits
from penstock.schema.meter import Claim, Meter, Settlement, Verdict
from penstock.schema.price import Price
from penstock.schema.request import CHAT, Request

MANY, DEAR = 10**9, 10.0**8
SHORT = 10**8
"""Requests a minute below ``lease_from``, so that each asks the store."""

PLANS: Mapping[str, Plan] = {
    "off": Plan(),
    "exact, requests": Plan(
        gateway=Limits(MANY), endpoint=Limits(MANY), address=Limits(MANY), key=Limits(MANY), lease_from=MANY + 1
    ),
    "leased, requests": Plan(gateway=Limits(MANY), endpoint=Limits(MANY), address=Limits(MANY), key=Limits(MANY)),
    "leased, requests, tokens, budget": Plan(
        gateway=Limits(MANY),
        endpoint=Limits(MANY),
        address=Limits(MANY),
        key=Limits(MANY, tokens_per_minute=MANY),
        key_budget=Budget(daily=DEAR),
    ),
}
PRICES = [Price(input=10**9, output=10**9)]


class MemoryStore:
    """Meters in this process, by a store's own arithmetic; ``calls`` are counted."""

    def __init__(self) -> None:
        self.calls = 0
        self._meters: dict[str, Meter] = {}

    async def reserve(self, id: str, claims: Sequence[Claim], *, now: int, expires: int) -> Verdict:
        """Grant what is claimed; nothing here comes near its limit."""
        self.calls += 1
        tats = {}
        for claim in claims:
            meter = self._meters.setdefault(claim.meter, Meter())
            meter.grant(claim, now, claim.hold(id, expires))
            tats |= {(claim.meter, rate): tat for rate, tat in meter.tats.items()}
        return Verdict((), tats)

    async def settle(self, settlements: Sequence[Settlement]) -> int:
        """End holds."""
        self.calls += 1
        return sum(self._meters[settlement.hold.meter].settle(settlement) for settlement in settlements)


def _request(number: int) -> Request:
    body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 16}
    deadline = asyncio.get_running_loop().time() + 300
    return Request(f"req_{number}", CHAT, "m", body, False, CALLER, deadline, address="127.0.0.1", size=400)


CALLER = Caller("key_1")


async def _round(plan: Plan, count: int) -> tuple[float, float]:
    """µs of CPU and calls to the store for each request."""
    store = MemoryStore()
    limiter: Any = Limiter(store, plan)  # type: ignore[arg-type]
    for warming in (True, False):
        requests = [_request(number) for number in range(count // 10 if warming else count)]
        before, began = store.calls, time.process_time()
        for request in requests:
            terms = limiter.terms(request)
            need = need_of(request, terms, PRICES, 4096)
            reservation = await limiter.reserve(request, terms, need)
            limiter.settle(reservation, tokens=20, nanos=10_000)
        await limiter.settled()
        took, calls = time.process_time() - began, store.calls - before
    await limiter.close()
    return took / count * 1e6, calls / count


def measure(rounds: int, count: int = 10_000) -> dict[str, tuple[float, float]]:
    """For each plan the medians of µs and of calls to the store, measured in turns."""
    taken = [{name: asyncio.run(_round(plan, count)) for name, plan in PLANS.items()} for _ in range(rounds)]
    return {name: (median(one[name][0] for one in taken), median(one[name][1] for one in taken)) for name in PLANS}


if __name__ == "__main__":
    for name, (us, calls) in measure(5).items():
        print(f"{name:35} {us:6.2f} µs, {calls:.4f} calls")
