"""Limits under any interleaving: clients that reserve, settle, repeat themselves, die and come back late.

After every step the store shows exactly what a model in plain Python says, and no limit was ever passed. Set
``PENSTOCK_TEST_LONG=1`` for many more and longer stories.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from penstock.core.ports import Store
from penstock.schema.limit import Budget
from penstock.schema.meter import SECOND, Claim, Draw, Hold, Refusal, Settlement
from tests.laws.stores.meter_model import Model
from tests.laws.stores.places import Place
from tests.laws.stores.records import NOW

T = TypeVar("T")

LONG = os.environ.get("PENSTOCK_TEST_LONG") == "1"
EXAMPLES = {"sqlite": 40, "dynamodb-in-process": 8, "dynamodb-over-http": 6}
CLIENTS = 3
HOUR, DAY = 3600 * SECOND, 86400 * SECOND
FORGET = 2 * HOUR


@dataclass(frozen=True, slots=True)
class Shape:
    """What is limited on a meter. Rates are an interval and a burst."""

    requests: tuple[int, int] | None = None
    tokens: tuple[int, int] | None = None
    slots: int = 0
    budget: Budget | None = None

    def claim(self, meter: str, now: int, *, times: int, tokens: int, nanos: int) -> Claim:
        """``times`` requests of so many tokens and nano-dollars each, as a block asks for them."""
        draws, reserves = [], []
        if self.requests:
            interval, burst = self.requests
            draws = [Draw("requests", times * interval, burst * interval)]
        if self.tokens:
            interval, burst = self.tokens
            reserves = [Draw("tokens", times * tokens * interval, burst * interval)]
        ceilings = self.budget.ceilings(now / SECOND) if self.budget else ()
        return Claim(
            meter,
            tuple(draws),
            tuple(reserves),
            slots=1 if self.slots else 0,
            max_slots=self.slots,
            nanos=times * nanos if ceilings else 0,
            ceilings=ceilings,
            held=bool(self.tokens or self.slots or ceilings),
            forget=0 if ceilings else (now + FORGET) // SECOND,
        )


SHAPES = {
    "address": Shape(requests=(SECOND, 4)),
    "house": Shape(requests=(SECOND // 7, 9), slots=3),
    "key": Shape(tokens=(SECOND // 10, 60), budget=Budget(daily=300e-9, total=2000e-9)),
    "owner": Shape(
        requests=(SECOND // 3, 5), tokens=(SECOND // 20, 100), slots=2, budget=Budget(weekly=500e-9, monthly=900e-9)
    ),
}

some_meters = st.lists(st.sampled_from(sorted(SHAPES)), min_size=1, max_size=3, unique=True) | st.just(["owner"])
passing = st.one_of(
    st.integers(0, 2 * SECOND),
    st.integers(0, 90 * SECOND),
    st.integers(-2 * SECOND, 0),
    st.sampled_from([SECOND // 7, SECOND, HOUR, 5 * HOUR, DAY]),
)


@dataclass(frozen=True, slots=True)
class Granted:
    """A reservation, and the tokens that it reserved."""

    hold: Hold
    tokens: int
    interval: int


class Stories(RuleBasedStateMachine):
    """Any story of three clients at one store."""

    place: Place

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.run = uuid.uuid4().hex[:8]
        self.now = self.latest = int(NOW) * SECOND
        self.set_back = 0
        self.models: dict[str, Model] = {}
        self.granted: list[Granted] = []
        self.clients: list[Store] = []

    def do(self, call: Awaitable[T]) -> T:
        async def wait() -> T:
            return await call

        return self.runner.run(wait())

    def connect(self) -> Store:
        store = self.place.connect()
        self.do(store.open())
        return store

    @initialize()
    def begin(self) -> None:
        self.clients = [self.connect() for _ in range(CLIENTS)]

    @rule(amount=passing)
    def time_passes(self, amount: int) -> None:
        """A little of it may pass backwards: clocks are set, and those of two machines differ."""
        self.now += amount
        self.set_back += max(-amount, 0)
        self.latest = max(self.latest, self.now)

    @rule(
        client=st.integers(0, CLIENTS - 1),
        names=some_meters,
        times=st.sampled_from([1, 1, 1, 2, 4]),
        tokens=st.integers(0, 30),
        nanos=st.integers(0, 160),
        life=st.sampled_from([SECOND, 10 * SECOND, 10 * SECOND, HOUR]),
        calls=st.sampled_from([1, 1, 1, 2, 3]),
    )
    def reserve(
        self, *, client: int, names: list[str], times: int, tokens: int, nanos: int, life: int, calls: int
    ) -> None:
        """Where the answer was lost, the same is asked for again."""
        request, expires = uuid.uuid4().hex, self.now + life
        claims = [
            SHAPES[name].claim(f"{name}#{self.run}", self.now, times=times, tokens=tokens, nanos=nanos)
            for name in names
        ]
        for turn in range(calls):
            expected = self.expected(claims)
            verdict = self.do(self.clients[client].reserve(request, claims, now=self.now, expires=expires))
            if turn and any(request in self.model(claim).open for claim in claims):
                assert not verdict.refusals, "what was granted is granted still"
                continue
            assert self.same(claims, set(verdict.refusals), expected)
            if not expected:
                self.grant(request, claims, expires, tokens=times * tokens)

    @rule(
        client=st.integers(0, CLIENTS - 1),
        picks=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 100)), min_size=1, max_size=4),
        calls=st.sampled_from([1, 1, 2]),
    )
    def settle(self, client: int, picks: list[tuple[int, int]], calls: int) -> None:
        """In any order, late, and often again, also within one call."""
        if not self.granted:
            return
        settlements = []
        for pick, percent in picks:
            hold, tokens, interval = self.of(pick)
            used = (("tokens", tokens * 2 * percent // 100 * interval),) if interval else ()
            settlements.append(Settlement(hold, hold.nanos * percent // 100, used, self.now))
        settlements = list({each.hold: each for each in settlements}.values())
        for _ in range(calls):
            ended = self.do(self.clients[client].settle([*settlements, settlements[0]]))
            assert ended == sum(self.models[each.hold.meter].settle(each) for each in settlements)

    @rule(client=st.integers(0, CLIENTS - 1))
    def end_expired(self, client: int) -> None:
        """Anybody may look after the dead at any time, and is told whom he has ended."""
        ended = self.do(self.clients[client].end_expired(self.now))
        gone = self.learn_of_the_dead()
        assert sorted(ended, key=repr) == sorted(gone, key=repr)

    @rule(client=st.integers(0, CLIENTS - 1))
    def die(self, client: int) -> None:
        """A client dies with all that it remembers; another takes its place."""
        self.do(self.clients[client].close())
        self.clients[client] = self.connect()

    def everybody_dies(self) -> None:
        """Nobody settles any more: once all has expired, one round leaves no hold and no slot behind."""
        # A store may look after a meter when the longest of its holds is due, though that one has been settled.
        self.now = max([self.now, *(each.hold.expires for each in self.granted)])
        self.latest = max(self.latest, self.now)
        self.do(self.clients[0].end_expired(self.now))
        for name, model in self.models.items():
            meter = self.do(self.clients[1].read_meter(name))
            model.lose(meter, self.latest, self.now)
            assert (meter.holds, meter.slots, model.open) == ({}, 0, {})

    @invariant()
    def the_store_shows_what_the_model_says(self) -> None:
        for name, model in self.models.items():
            meter = self.do(self.clients[0].read_meter(name))
            model.lose(meter, self.latest, self.now)
            model.check(meter, self.latest, set_back=self.set_back)

    def teardown(self) -> None:
        if self.clients:
            self.everybody_dies()
            for client in self.clients:
                self.do(client.close())
        self.runner.close()

    def of(self, pick: int) -> tuple[Hold, int, int]:
        found = self.granted[pick % len(self.granted)]
        return found.hold, found.tokens, found.interval

    def model(self, claim: Claim) -> Model:
        return self.models.setdefault(claim.meter, Model())

    def expected(self, claims: list[Claim]) -> set[Refusal]:
        return {refusal for claim in claims for refusal in self.model(claim).refusals(claim, self.now)}

    def same(self, claims: list[Claim], told: set[Refusal], expected: set[Refusal]) -> bool:
        """Of what no meter could ever grant it is enough to say so: the dead are not looked after for it."""
        if any(claim.impossible for claim in claims):
            told, expected = ({replace_room(each) for each in those} for those in (told, expected))
            return told >= expected
        return told == expected

    def grant(self, id: str, claims: list[Claim], expires: int, *, tokens: int) -> None:
        for claim in claims:
            self.model(claim).grant(id, claim, self.now, expires)
            hold = self.model(claim).open.get(id)
            if hold is not None:
                rate = SHAPES[claim.meter.partition("#")[0]].tokens
                self.granted.append(Granted(hold, tokens, rate[0] if rate else 0))

    def learn_of_the_dead(self) -> list[Hold]:
        gone = []
        for name, model in self.models.items():
            gone += model.lose(self.do(self.clients[0].read_meter(name)), self.latest, self.now)
        return gone


def replace_room(refusal: Refusal) -> Refusal:
    return refusal._replace(room=0, wait=None)


@pytest.mark.timeout(3600 if LONG else 120)
def test_any_story_keeps_every_limit_and_loses_nothing(
    place: Place, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stories, "place", place, raising=False)
    name = request.node.callspec.params["place"]
    examples = EXAMPLES.get(name, 10)
    run_state_machine_as_test(
        Stories,
        settings=settings(
            max_examples=examples * 50 if LONG else examples,
            stateful_step_count=80 if LONG else 30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate],
            database=None,
        ),
    )
