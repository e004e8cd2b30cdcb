"""Which limits hold for a request, and what it asks of each meter under them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address, IPv6Network
from typing import NamedTuple

from penstock.schema.key import ANONYMOUS, Caller
from penstock.schema.limit import MINUTE, NO_BUDGET, NO_LIMITS, Budget, Limits, window_ends
from penstock.schema.meter import SECOND, Claim, Draw

REQUESTS, TOKENS = "requests", "tokens"
GATEWAY, ENDPOINT, MODEL, KEY, OWNER, ADDRESS = "gateway", "endpoint", "model", "key", "owner", "address"

LEASE = SECOND
"""The longest that a block of permits may be spent after it was granted, in nanoseconds."""
BURST = 16
"""A rate of requests is leased only if it allows as many at once: out of fewer, no block would be worth taking."""
IDLE = 2 * 3600
"""Seconds after which a meter without a budget may be forgotten: longer than any request may take."""
KEPT = 40 * 86400
"""Seconds for which a meter with a budget is kept after the end of its windows."""


class Need(NamedTuple):
    """The most that a request may take: tokens, nano-dollars; and those of them that its prompt has."""

    tokens: int = 0
    nanos: int = 0
    prompt: int = 0


class Rated(NamedTuple):
    """A rate of a meter: nanoseconds for each unit, and how far ahead it may be taken."""

    name: str
    interval: int
    depth: int
    per_minute: int
    scope: str

    def left(self, tat: int, now: int) -> int:
        """How many may be taken at once at ``now``."""
        return (self.depth - max(tat - now, 0)) // self.interval


Rates = tuple[tuple[Rated, ...], tuple[Rated, ...]]
"""Those of requests, and those of tokens."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds on one meter. With ``leased``, permits are taken in blocks that are good for ``lease`` nanoseconds.

    ``block`` tells blocks of one meter apart that draw on different rates. Where any process may hold a block, rates
    are less deep for everybody, by as much as comes back while it lasts: spent at its very end, it is within the limit.
    """

    scope: str
    meter: str
    block: str
    requests: tuple[Rated, ...] = ()
    tokens: tuple[Rated, ...] = ()
    slots: int | None = None
    budget: Budget | None = None
    leased: bool = False
    lease: int = 0

    @property
    def held(self) -> bool:
        """Whether something must be settled."""
        return bool(self.tokens or self.slots or self.budget)

    def of_requests(self) -> Terms | None:
        """What is taken when a job is accepted: from a block, nothing but a request is."""
        if self.leased:
            return self
        return replace(self, tokens=(), slots=None, budget=None) if self.requests else None

    def of_the_rest(self) -> Terms | None:
        """What is taken when an accepted job runs, for itself and not out of a block."""
        return replace(self, requests=(), leased=False, lease=0) if self.held else None

    def leases(self, need: Need) -> bool:
        """Whether such a request is taken out of a block: one that is larger than a block may be asks for itself."""
        return self.leased and all(need.tokens * rate.interval <= rate.depth for rate in self.tokens)

    def claim(self, need: Need, now: int, *, block: int = 0) -> Claim:
        """What such a request asks of the meter, or a ``block`` of so many."""
        count = block or 1
        draws = [Draw(rate.name, rate.interval * count, rate.depth) for rate in self.requests]
        tokens = need.tokens * count
        reserves = tuple(Draw(r.name, min(tokens * r.interval, r.depth), r.depth) for r in self.tokens)
        ceilings = self.budget.ceilings(now / SECOND) if self.budget else ()
        return Claim(
            self.meter,
            tuple(draws),
            reserves,
            slots=1 if self.slots else 0,
            max_slots=self.slots or 0,
            nanos=need.nanos * count if ceilings else 0,
            ceilings=ceilings,
            held=self.held,
            forget=self._forget(ceilings, now // SECOND),
        )

    def _forget(self, ceilings: tuple[tuple[str, int], ...], now: int) -> int:
        ends = [window_ends(window) for window, _ in ceilings]
        if None in ends:
            return 0
        return int(max(end for end in ends if end)) + KEPT if ends else now + IDLE


@dataclass(frozen=True, slots=True)
class Plan:
    """The limits and budgets of the configuration. A key's own stand in the place of ``key`` and ``key_budget``.

    A meter whose every request rate allows ``lease_from`` a minute is leased in blocks; so is one without a request
    rate, where ``long_lived`` says that this process can settle its blocks by itself.
    """

    gateway: Limits = NO_LIMITS
    endpoint: Limits = NO_LIMITS
    endpoints: Mapping[str, Limits] = field(default_factory=dict)
    models: Mapping[str, Limits] = field(default_factory=dict)
    address: Limits = NO_LIMITS
    key: Limits = NO_LIMITS
    owner: Limits = NO_LIMITS
    owners: Mapping[str, Limits] = field(default_factory=dict)
    key_budget: Budget = NO_BUDGET
    owner_budget: Budget = NO_BUDGET
    owner_budgets: Mapping[str, Budget] = field(default_factory=dict)
    lease_from: int = 3000
    long_lived: bool = True

    def shared(self, endpoint: str) -> Terms | None:
        """What holds for all callers of an endpoint together, on the one meter of the house."""
        own = self.endpoints.get(endpoint, self.endpoint)
        slots = self.gateway.concurrency
        one, lease = self._leased(_rates(self.gateway, REQUESTS, TOKENS, GATEWAY), slots)
        two, other = self._leased(_rates(own, f"{REQUESTS} {endpoint}", f"{TOKENS} {endpoint}", ENDPOINT), slots)
        rates = one[0] + two[0], one[1] + two[1]
        return self._terms(GATEWAY, GATEWAY, rates, min(lease, other), slots=slots, block=endpoint)

    def of_model(self, model: str) -> Terms | None:
        """What holds for all requests of a model, by its public name."""
        limits = self.models.get(model)
        return None if limits is None else self._of(MODEL, model_meter(model), limits, NO_BUDGET)

    def of_caller(self, caller: Caller) -> tuple[Terms, ...]:
        """What holds for the caller's key and its owner."""
        found = []
        if caller.key_id != ANONYMOUS.key_id:
            limits, budget = caller.limits or self.key, caller.budget or self.key_budget
            found.append(self._of(KEY, f"{KEY}#{caller.key_id}", limits, budget))
        if caller.owner:
            limits = self.owners.get(caller.owner, self.owner)
            budget = self.owner_budgets.get(caller.owner, self.owner_budget)
            found.append(self._of(OWNER, f"{OWNER}#{caller.owner}", limits, budget))
        return tuple(terms for terms in found if terms)

    def of_address(self, address: str) -> Terms | None:
        """What holds for the address that a request comes from. Of IPv6 it is the /64, all of which is one caller's."""
        return self._of(ADDRESS, f"{ADDRESS}#{_neighbourhood(address)}", self.address, NO_BUDGET)

    def _of(self, scope: str, meter: str, limits: Limits, budget: Budget) -> Terms | None:
        rates, lease = self._leased(_rates(limits, REQUESTS, TOKENS, scope), limits.concurrency)
        return self._terms(scope, meter, rates, lease, slots=limits.concurrency, budget=budget)

    def _leased(self, rates: Rates, slots: int | None) -> tuple[Rates, int]:
        """Rates as deep as they are where blocks may be held, and for how long one may be: 0 where none may. Tokens are
        open until they settle, and so need no room for what comes back meanwhile.
        """
        if slots or any(r.per_minute < self.lease_from or r.depth < BURST * r.interval for r in rates[0]):
            return rates, 0
        lease = min([LEASE, *(rate.depth // 4 for rate in rates[0])])
        return (tuple(rate._replace(depth=rate.depth - lease) for rate in rates[0]), rates[1]), lease

    def _terms(
        self,
        scope: str,
        meter: str,
        rates: Rates,
        lease: int,
        *,
        slots: int | None,
        budget: Budget = NO_BUDGET,
        block: str = "",
    ) -> Terms | None:
        requests, tokens = rates
        money = None if budget == NO_BUDGET else budget
        if not (requests or tokens or slots or money):
            return None
        leased = bool(lease) and (self.long_lived or not (tokens or money))
        return Terms(scope, meter, f"{meter} {block}", requests, tokens, slots, money, leased, lease)


def model_meter(model: str) -> str:
    """The name of a model's meter."""
    return f"{MODEL}#{model}"


def _neighbourhood(address: str) -> str:
    try:
        found = IPv6Address(address)
    except ValueError:
        return address[:64]  # of IPv4, or whatever a declared proxy has said
    return str(found.ipv4_mapped or IPv6Network((int(found) >> 64 << 64, 64)))


def _rates(limits: Limits, requests: str, tokens: str, scope: str) -> Rates:
    """The rates that limits state: of requests, and of tokens. Intervals are rounded up, so that no limit is passed."""
    found: Rates = ((), ())
    if limits.requests_per_minute:
        interval = -(-MINUTE // limits.requests_per_minute)
        found = ((Rated(requests, interval, interval * limits.at_once, limits.requests_per_minute, scope),), ())
    if limits.tokens_per_minute:
        interval = -(-MINUTE // limits.tokens_per_minute)
        rated = Rated(tokens, interval, interval * limits.tokens_per_minute, limits.tokens_per_minute, scope)
        found = (found[0], (rated,))
    return found
