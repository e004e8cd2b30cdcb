"""Keys of every kind, the configuration around them, and what the state says of their meters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from penstock.core.keys import generate, new_key
from penstock.core.ports import Store
from penstock.schema.limit import Budget, Limits, stated
from penstock.schema.meter import SECOND, Hold, Meter
from penstock.schema.price import NANO
from tests.e2e.money.calls import INPUT, MODEL, OUTPUT, Call, Client
from tests.e2e.money.gateways import TIMEOUT

TEAM = "team"
LEASE_FROM = 3000
KINDS: dict[str, tuple[Limits, Budget, str]] = {
    "daily": (Limits(2400, 100), Budget(daily=0.02), ""),
    "total": (Limits(concurrency=8), Budget(daily=1.0, total=0.02), ""),
    "leased": (Limits(), Budget(total=0.05), ""),
    "swift": (Limits(12_000, 200), Budget(total=0.1), ""),
    "paced": (Limits(300, 5), Budget(), ""),
    "brisk": (Limits(3000, 10), Budget(), ""),
    "tokens": (Limits(600, tokens_per_minute=12_000), Budget(), ""),
    "block of tokens": (Limits(tokens_per_minute=60_000), Budget(), ""),
    "slots": (Limits(concurrency=3), Budget(), ""),
    "member": (Limits(concurrency=6), Budget(total=1.0), TEAM),
    "leased member": (Limits(), Budget(daily=1.0), TEAM),
}
"""What each kind of key may take. Those with slots, or a rate below ``LEASE_FROM``, are exact; others lease."""
TEAMS = Limits(concurrency=10), Budget(total=0.03)
"""What the members may take together."""


@dataclass(frozen=True, slots=True)
class Scale:
    """By how much less may be taken where the store is slow, so that limits and budgets are met there too."""

    rates: int = 1
    dollars: int = 1

    def limits(self, limits: Limits) -> Limits:
        """Limits for this scale; slots stay."""
        numbers = {name: value for name in RATES if (value := getattr(limits, name))}
        return replace(limits, **{name: max(value // self.rates, 1) for name, value in numbers.items()})

    def budget(self, budget: Budget) -> Budget:
        """A budget for this scale."""
        return Budget(**{name: value / self.dollars for name, value in (stated(budget) or {}).items()})


DEAD = 20 * SECOND
"""So long before a hold expires its request has been over for long: its process will not come back to it."""
RATES = ("requests_per_minute", "burst", "tokens_per_minute")


def configuration(upstream: str, scale: Scale) -> dict[str, object]:
    """The ``config.yaml`` of every gateway. A busy store must not loosen rates, so they fail closed here."""
    limits, budget = TEAMS
    return {
        "request": {"timeout": TIMEOUT},
        "logging": {"level": "WARNING"},
        "providers": [{"name": "engine", "type": "openai", "base_url": upstream, "models": [MODEL]}],
        "prices": [{"provider": "engine", "input": INPUT * 10**6 / NANO, "output": OUTPUT * 10**6 / NANO}],
        "limits": {
            "gateway": stated(scale.limits(Limits(60_000, 10_000))),
            "endpoint": {},
            "address": {},
            "key": {},
            "owners": {TEAM: stated(scale.limits(limits))},
            "when_state_is_away": "closed",
            "lease_from": LEASE_FROM // scale.rates,
        },
        "budgets": {"owners": {TEAM: stated(scale.budget(budget))}},
    }


async def clients(store: Store, scale: Scale) -> list[Client]:
    """A key of each kind in the store."""
    made = []
    for kind, (limits, budget, owner) in KINDS.items():
        secret = generate()
        key = new_key(secret, description=kind, limits=scale.limits(limits), budget=scale.budget(budget), owner=owner)
        await store.create_key(key)
        made.append(Client(key, secret.reveal()))
    return made


@dataclass(slots=True)
class Account:
    """A meter with a budget, and whose calls are paid from it. ``lost`` are holds that nobody settles any more."""

    meter: str
    clients: Sequence[Client]
    budget: Budget
    slots: int | None
    exact: bool
    lost: dict[str, Hold] = field(default_factory=dict)

    def calls(self, every: Sequence[Call]) -> list[Call]:
        """Its calls that came to the upstream."""
        keys = {client.key.id for client in self.clients}
        return [call for call in every if call.arrivals and call.client.key.id in keys]

    def ceiling(self, window: str) -> int:
        """The most nano-dollars of a window, told from its name: ``total``, or a day."""
        dollars = self.budget.total if window == "total" else self.budget.daily
        assert dollars is not None, f"{self.meter} has no budget for {window}"
        return round(dollars * NANO)

    def look(self, meter: Meter, now: int) -> None:
        """What must hold of the meter whenever somebody looks; ``now`` is a moment after it was read."""
        holds = meter.holds.values()
        self.lost |= {hold.id: hold for hold in holds if hold.expires < now + DEAD}
        assert meter.slots == sum(hold.slots for hold in holds), meter
        assert meter.slots <= (self.slots or 0), meter
        for window, spent in meter.spent.items():
            open_holds = sum(hold.nanos for hold in holds if window in hold.windows)
            assert open_holds <= spent <= self.ceiling(window), (self.meter, window, meter)


def accounts(made: Sequence[Client], scale: Scale) -> list[Account]:
    """The meter of each key, and the team's."""
    found = []
    for client in made:
        limits, budget = client.key.limits or Limits(), client.key.budget or Budget()
        pace = limits.requests_per_minute or LEASE_FROM
        exact = bool(limits.concurrency) or pace < LEASE_FROM // scale.rates
        found.append(Account(f"key#{client.key.id}", [client], budget, limits.concurrency, exact))
    team = [client for client in made if client.key.owner == TEAM]
    limits, budget = TEAMS
    found.append(Account(f"owner#{TEAM}", team, scale.budget(budget), limits.concurrency, True))
    return found
