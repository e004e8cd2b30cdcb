"""What the tests of limits share: a store of meters in memory, a clock, requests and needs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from penstock.core.limits import leases, limiter
from penstock.core.limits.terms import Need, Plan, Terms
from penstock.errors import StateError
from penstock.schema.key import Caller
from penstock.schema.limit import NO_BUDGET, NO_LIMITS, Budget, Limits
from penstock.schema.meter import SECOND, Claim, Hold, Meter, Settlement, Verdict, overdue
from penstock.schema.request import CHAT, Request

AWAY = StateError("the store is away")


class Clock:
    """Stands in for the module ``time``: it goes on, and is set, only when a test says so."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000 * SECOND
        self.mono = 5_000 * SECOND

    def time_ns(self) -> int:
        return self.wall

    def monotonic_ns(self) -> int:
        return self.mono

    def time(self) -> float:
        return self.wall / SECOND

    def go_on(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self.wall += round(seconds * SECOND)
        self.mono += round(seconds * SECOND)

    def put_before(self, patch: pytest.MonkeyPatch) -> None:
        """Have limits look at this clock."""
        for module in (limiter, leases):
            patch.setattr(module, "time", self)


class Meters:
    """The meters of a store, without a store around them."""

    def __init__(self) -> None:
        self.meters: dict[str, Meter] = {}

    def meter(self, name: str) -> Meter:
        return self.meters.setdefault(name, Meter())

    def reserve(self, id: str, claims: Sequence[Claim], now: int, expires: int) -> Verdict:
        for claim in claims:
            for each in overdue(self.meter(claim.meter).expired(now), now):
                self.settle([each])
        meters = [(claim, self.meter(claim.meter)) for claim in claims]
        refusals = tuple(refusal for claim, meter in meters for refusal in meter.refusals(claim, now))
        if not refusals and not any(id in meter.holds for _, meter in meters):
            for claim, meter in meters:
                meter.grant(claim, now, claim.hold(id, expires))
        fronts = {(claim.meter, rate): at for claim, meter in meters for rate, at in meter.fronts(now).items()}
        return Verdict(refusals, fronts)

    def settle(self, settlements: Sequence[Settlement]) -> int:
        return sum(self.meter(each.hold.meter).settle(each) for each in settlements)

    def end_expired(self, now: int) -> list[Hold]:
        lost = [hold for meter in self.meters.values() for hold in meter.expired(now)]
        self.settle(overdue(lost, now))
        return lost


class MeterStore:
    """The part of a store that keeps meters. It fails while ``failure`` is set, after the effect if ``too_late``."""

    def __init__(self, meters: Meters | None = None) -> None:
        self.kept = meters or Meters()
        self.asked: Counter[str] = Counter()
        self.claimed: list[list[Claim]] = []
        self.settlements: list[Settlement] = []
        self.failure: BaseException | None = None
        self.too_late = False
        self.gate: asyncio.Event | None = None

    async def reserve(self, id: str, claims: Sequence[Claim], *, now: int, expires: int) -> Verdict:
        self.claimed.append(list(claims))
        await self._enter("reserve")
        verdict = self.kept.reserve(id, claims, now, expires)
        self._leave()
        return verdict

    async def settle(self, settlements: Sequence[Settlement]) -> int:
        await self._enter("settle")
        ended = self.kept.settle(settlements)
        self.settlements += settlements
        self._leave()
        return ended

    async def end_expired(self, now: int) -> list[Hold]:
        await self._enter("end_expired")
        return self.kept.end_expired(now)

    async def _enter(self, operation: str) -> None:
        self.asked[operation] += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None and not self.too_late:
            raise self.failure

    def _leave(self) -> None:
        if self.failure is not None:
            raise self.failure


async def until(condition: Callable[[], bool]) -> None:
    """Let others run until it is so."""
    async with asyncio.timeout(5):
        while True:
            if condition():
                return
            await asyncio.sleep(0)


def a_request(key: str = "k", *, owner: str = "", endpoint: str = CHAT, seconds: float = 60.0, **more: Any) -> Request:
    """A request of a key, with a deadline so many seconds ahead."""
    deadline = asyncio.get_running_loop().time() + seconds
    caller = Caller(key, owner, limits=more.pop("limits", None), budget=more.pop("budget", None))
    body = {"model": "m", **more.pop("body", {})}
    return Request("req", endpoint, "m", body, False, caller, deadline, **more)


def key_terms(limits: Limits = NO_LIMITS, budget: Budget = NO_BUDGET, **plan: Any) -> Terms:
    """What holds for a key with these limits."""
    found = Plan(key=limits, key_budget=budget, **plan).of_caller(Caller("k"))
    assert len(found) == 1
    return found[0]


ONE = Need(tokens=10, nanos=100, prompt=1)
