"""Meters: what has been taken under a limit, and the arithmetic by which every store grants or refuses.

A **meter** belongs to a key, an owner, an address or the whole house. It has rates, slots, spending and holds.

A rate is kept by the generic cell rate algorithm (GCRA): one number, the theoretical arrival time, in nanoseconds since
the epoch. Taking ``n`` moves it on by ``n`` intervals from the later of itself and now; it may not move further than
``depth`` ahead of now. So in any time T no more than ``(depth + T) / interval`` is granted, at every instant.

A **hold** is what a request has reserved and must settle: a slot, money, tokens. It has an expiry, after which anybody
may end it for a process that died; then what it would have cost at most counts as spent.

What is reserved of a rate is *open* until it settles: it takes up room and does not come back with time. What was used
of it is taken when it settles. So what is open and what was taken are together never more than the rate allows. To give
back after a while what was taken at once would be wrong: time may have given it back already.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

SECOND = 10**9
SLOTS = "slots"


class Draw(NamedTuple):
    """What is taken of a rate: ``cost`` and ``depth`` in nanoseconds of its own time."""

    rate: str
    cost: int
    depth: int


@dataclass(frozen=True, slots=True)
class Hold:
    """What a request (or a leased block of them) has reserved on one meter until it settles.

    ``nanos`` are nano-dollars in each of ``windows``: what it may cost at most. ``reserved``
    is what is open of each rate. ``expires`` is in nanoseconds since the epoch.
    """

    id: str
    meter: str
    expires: int
    slots: int = 0
    nanos: int = 0
    windows: tuple[str, ...] = ()
    reserved: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request asks of one meter, granted whole or not at all.

    ``draws`` are taken at once, ``reserves`` when they settle. ``ceilings`` are windows of a budget and the most
    nano-dollars of each. With ``held``, something of it is to be settled. ``forget`` is when the meter may be forgotten
    if nobody asks again, in seconds since the epoch; 0 is never.
    """

    meter: str
    draws: tuple[Draw, ...] = ()
    reserves: tuple[Draw, ...] = ()
    slots: int = 0
    max_slots: int = 0
    nanos: int = 0
    ceilings: tuple[tuple[str, int], ...] = ()
    held: bool = False
    forget: int = 0

    @property
    def impossible(self) -> bool:
        """Whether no meter, however fresh, could grant it."""
        return (
            any(cost > depth for _, cost, depth in self.draws + self.reserves)
            or self.slots > self.max_slots
            or any(self.nanos > most for _, most in self.ceilings)
        )

    def hold(self, id: str, expires: int) -> Hold | None:
        """What this claim reserves once it is granted, or ``None`` if nothing of it is to be settled."""
        if not self.held:
            return None
        windows = tuple(window for window, _ in self.ceilings)
        reserved = tuple((rate, cost) for rate, cost, _ in self.reserves)
        return Hold(id, self.meter, expires, self.slots, self.nanos, windows, reserved)


class Settlement(NamedTuple):
    """The end of a hold: nano-dollars that it came to, and what was used of each rate that it reserved, in the rate's
    nanoseconds, ``at`` a time since the epoch.
    """

    hold: Hold
    nanos: int = 0
    used: tuple[tuple[str, int], ...] = ()
    at: int = 0


class Refusal(NamedTuple):
    """Why a claim is not granted: the rate, ``slots`` or a budget's window. ``wait`` in nanoseconds, ``None`` where
    time alone does not help; ``room`` is what is left of it, in its own unit.
    """

    meter: str
    what: str
    wait: int | None
    room: int


class Verdict(NamedTuple):
    """What a store says to claims: granted if nothing refuses. ``tats`` are arrival times by meter and rate, with what
    is open of each, as far as the store saw them; ``lost`` are the expired holds that it has ended on the way.
    """

    refusals: tuple[Refusal, ...]
    tats: dict[tuple[str, str], int]
    lost: tuple[Hold, ...] = ()


@dataclass(slots=True)
class Meter:
    """A meter as a store holds it."""

    tats: dict[str, int] = field(default_factory=dict)
    slots: int = 0
    spent: dict[str, int] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)
    open: dict[str, int] = field(default_factory=dict)

    def fronts(self, now: int) -> dict[str, int]:
        """The arrival time of each rate, as it would be if all that is open were taken."""
        rates = self.tats.keys() | self.open.keys()
        return {rate: max(self.tats.get(rate, 0), now) + self.open.get(rate, 0) for rate in rates}

    def expired(self, now: int) -> list[Hold]:
        """The holds whose owner died, or was away for too long."""
        return [hold for hold in self.holds.values() if hold.expires <= now]

    def refusals(self, claim: Claim, now: int) -> list[Refusal]:
        """What stands against a claim at ``now`` (nanoseconds since the epoch); empty if it can be granted."""
        found = []
        for rate, cost, depth in claim.draws + claim.reserves:
            ahead, held = max(self.tats.get(rate, 0) - now, 0), self.open.get(rate, 0)
            if ahead + held + cost > depth:
                wait = ahead + held + cost - depth if held + cost <= depth else None
                found.append(Refusal(claim.meter, rate, wait, depth - ahead - held))
        if claim.slots and self.slots + claim.slots > claim.max_slots:
            found.append(Refusal(claim.meter, SLOTS, None, claim.max_slots - self.slots))
        for window, most in claim.ceilings:
            spent = self.spent.get(window, 0)
            if spent + claim.nanos > most:
                found.append(Refusal(claim.meter, window, None, most - spent))
        return found

    def grant(self, claim: Claim, now: int, hold: Hold | None) -> None:
        """Take what the claim asks; whether it may is for ``refusals`` to say."""
        for rate, cost, _ in claim.draws:
            self.tats[rate] = max(self.tats.get(rate, 0), now) + cost
        for rate, cost, _ in claim.reserves:
            self.tats[rate] = max(self.tats.get(rate, 0), now)
            self.open[rate] = self.open.get(rate, 0) + cost
        self.slots += claim.slots
        for window, _ in claim.ceilings:
            self.spent[window] = self.spent.get(window, 0) + claim.nanos
        if hold is not None:
            self.holds[hold.id] = hold

    def settle(self, settlement: Settlement) -> bool:
        """End a hold; ``False`` if it has ended already, which changes nothing."""
        hold = self.holds.pop(settlement.hold.id, None)
        if hold is None:
            return False
        used = dict(settlement.used)
        for rate, cost in hold.reserved:
            self.open[rate] -= cost
            self.tats[rate] = max(self.tats.get(rate, 0), settlement.at) + used.get(rate, 0)
        self.slots -= hold.slots
        for window in hold.windows:
            self.spent[window] = self.spent.get(window, 0) + settlement.nanos - hold.nanos
        return True


def overdue(holds: Iterable[Hold], now: int) -> list[Settlement]:
    """How holds end that nobody settled: what they may have cost at most counts as spent, and what they reserved of a
    rate as used.
    """
    return [Settlement(hold, hold.nanos, hold.reserved, now) for hold in holds]
