"""What meters must do, told in plain Python: the model that stores are compared with, and the bounds that it keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from penstock.schema.meter import SLOTS, Claim, Hold, Meter, Refusal, Settlement


@dataclass(slots=True)
class Grant:
    """What was taken of a rate at ``now``; ``beyond`` is what of it was more than had been reserved."""

    now: int
    cost: int
    depth: int
    beyond: int = 0


@dataclass(slots=True)
class Model:
    """One meter: everything that ever happened to it, and what follows from that."""

    tats: dict[str, int] = field(default_factory=dict)
    grants: dict[str, list[Grant]] = field(default_factory=dict)
    open: dict[str, Hold] = field(default_factory=dict)
    settled: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    depths: dict[str, int] = field(default_factory=dict)
    max_slots: int = 0
    ceilings: dict[str, int] = field(default_factory=dict)

    def spent(self, window: str) -> int:
        """Nano-dollars that the counter of a window must show."""
        reserved = sum(hold.nanos for hold in self.open.values() if window in hold.windows)
        return self.settled[window] + self.lost[window] + reserved

    def slots(self, now: int | None = None) -> int:
        """Slots that are taken; at ``now`` those of expired holds are not."""
        return sum(hold.slots for hold in self.open.values() if now is None or hold.expires > now)

    def reserved(self, rate: str, now: int | None = None) -> int:
        """What is open of a rate; at ``now`` that of expired holds is not: it has been taken."""
        holds = [hold for hold in self.open.values() if now is None or hold.expires > now]
        return sum(cost for hold in holds for name, cost in hold.reserved if name == rate)

    def refusals(self, claim: Claim, now: int) -> set[Refusal]:
        """What must be said to a claim, to the nanosecond and the nano-dollar."""
        found = set()
        for rate, cost, depth in claim.draws + claim.reserves:
            room = depth - max(0, self.tats.get(rate, 0) - now) - self.reserved(rate)
            if cost > room:
                passing = cost + self.reserved(rate, now) <= depth
                found.add(Refusal(claim.meter, rate, cost - room if passing else None, room))
        if claim.slots > claim.max_slots - self.slots(now):
            found.add(Refusal(claim.meter, SLOTS, None, claim.max_slots - self.slots(now)))
        for window, most in claim.ceilings:
            if claim.nanos > most - self.spent(window):
                found.add(Refusal(claim.meter, window, None, most - self.spent(window)))
        return found

    def grant(self, id: str, claim: Claim, now: int, expires: int) -> None:
        """Take what is claimed."""
        for rate, cost, depth in claim.draws:
            self.tats[rate] = max(now, self.tats.get(rate, 0)) + cost
            self.grants.setdefault(rate, []).append(Grant(now, cost, depth))
        for rate, _, depth in claim.reserves:
            self.tats[rate] = max(now, self.tats.get(rate, 0))
            self.depths[rate] = depth
        self.max_slots = max(self.max_slots, claim.max_slots)
        self.ceilings |= dict(claim.ceilings)
        if claim.held:
            windows = tuple(window for window, _ in claim.ceilings)
            reserved = tuple((rate, cost) for rate, cost, _ in claim.reserves)
            self.open[id] = Hold(id, claim.meter, expires, claim.slots, claim.nanos, windows, reserved)

    def settle(self, settlement: Settlement) -> bool:
        """End a hold with what it came to; ``False`` if there is none."""
        hold = self.open.pop(settlement.hold.id, None)
        if hold is None:
            return False
        self._take(hold, dict(settlement.used), settlement.at)
        self.settled.update(dict.fromkeys(hold.windows, settlement.nanos))
        return True

    def _take(self, hold: Hold, used: dict[str, int], at: int) -> None:
        for rate, cost in hold.reserved:
            taken = used.get(rate, 0)
            self.tats[rate] = max(self.tats.get(rate, 0), at) + taken
            grant = Grant(at, taken, self.depths[rate], beyond=max(taken - cost, 0))
            self.grants.setdefault(rate, []).append(grant)

    def lose(self, kept: Meter, latest: int, now: int) -> list[Hold]:
        """Learn from the store which holds were ended at ``now`` for their dead owners: none before its time."""
        gone = [hold for hold in self.open.values() if hold.id not in kept.holds]
        for hold in gone:
            assert hold.expires <= latest, "a hold was ended before it expired"
            self.lost.update(dict.fromkeys(hold.windows, hold.nanos))
            del self.open[hold.id]
            self._take(hold, dict(hold.reserved), now)
        return gone

    def check(self, kept: Meter, now: int, *, set_back: int) -> None:
        """The store shows exactly this, and no bound is passed."""
        assert kept.holds == self.open
        assert kept.slots == self.slots() <= self.max_slots
        for window, spent in _newest(kept.spent).items():
            assert spent == self.spent(window) <= self.ceilings[window]
        for rate in self.depths:
            assert kept.open.get(rate, 0) == self.reserved(rate) <= self.depths[rate]
        for rate, tat in self.tats.items():
            assert kept.tats.get(rate, tat if tat < now else None) == tat, "a rate is forgotten once it is whole again"
        for grants in self.grants.values():
            within_the_rate(grants, set_back)


def within_the_rate(grants: Sequence[Grant], set_back: int) -> None:
    """Between any two moments no more was taken than the rate allows, and no more than clocks were set back in all."""
    for first in grants:
        for last in grants:
            if first.now > last.now:
                continue
            inside = [grant for grant in grants if first.now <= grant.now <= last.now]
            taken = sum(grant.cost - grant.beyond for grant in inside)
            assert taken <= max(grant.depth for grant in inside) + last.now - first.now + set_back


def _newest(spent: dict[str, int]) -> dict[str, int]:
    """The windows that a store must still know: the three newest of each period."""
    periods: dict[int, list[str]] = {}
    for window in sorted(spent):
        periods.setdefault(len(window), []).append(window)
    return {window: spent[window] for windows in periods.values() for window in windows[-3:]}
