"""What meters must do, told in plain Python: the model that stores are compared with, and the bounds that it keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from penstock.schema.meter import SLOTS, Claim, Hold, Meter, Refusal, Settlement


@dataclass(slots=True)
class Grant:
    """What was taken of a rate at ``now``, and what came back of it since."""

    id: str
    now: int
    cost: int
    depth: int
    back: int = 0


@dataclass(slots=True)
class Model:
    """One meter: everything that ever happened to it, and what follows from that."""

    tats: dict[str, int] = field(default_factory=dict)
    grants: dict[str, list[Grant]] = field(default_factory=dict)
    open: dict[str, Hold] = field(default_factory=dict)
    settled: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    max_slots: int = 0
    ceilings: dict[str, int] = field(default_factory=dict)

    def spent(self, window: str) -> int:
        """Nano-dollars that the counter of a window must show."""
        reserved = sum(hold.nanos for hold in self.open.values() if window in hold.windows)
        return self.settled[window] + self.lost[window] + reserved

    def slots(self, now: int | None = None) -> int:
        """Slots that are taken; at ``now`` those of expired holds are not."""
        return sum(hold.slots for hold in self.open.values() if now is None or hold.expires > now)

    def refusals(self, claim: Claim, now: int) -> set[Refusal]:
        """What must be said to a claim, to the nanosecond and the nano-dollar."""
        found = set()
        for rate, cost, depth in claim.draws:
            room = depth - max(0, self.tats.get(rate, 0) - now)
            if cost > room:
                found.add(Refusal(claim.meter, rate, cost - room if cost <= depth else None, room))
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
            self.grants.setdefault(rate, []).append(Grant(id, now, cost, depth))
        self.max_slots = max(self.max_slots, claim.max_slots)
        self.ceilings |= dict(claim.ceilings)
        if claim.held:
            windows = tuple(window for window, _ in claim.ceilings)
            self.open[id] = Hold(id, claim.meter, expires, claim.slots, claim.nanos, claim.nanos, windows)

    def settle(self, settlement: Settlement) -> bool:
        """End a hold with what it came to; ``False`` if there is none."""
        hold = self.open.pop(settlement.hold.id, None)
        if hold is None:
            return False
        for rate, back in settlement.back:
            self.tats[rate] -= back
            next(grant for grant in self.grants[rate] if grant.id == hold.id).back += back
        self.settled.update(dict.fromkeys(hold.windows, settlement.nanos))
        return True

    def lose(self, kept: Meter, latest: int) -> list[Hold]:
        """Learn from the store which holds were ended for their dead owners: none before its time."""
        gone = [hold for hold in self.open.values() if hold.id not in kept.holds]
        for hold in gone:
            assert hold.expires <= latest, "a hold was ended before it expired"
            self.lost.update(dict.fromkeys(hold.windows, hold.nanos))
            del self.open[hold.id]
        return gone

    def check(self, kept: Meter, now: int) -> None:
        """The store shows exactly this, and no bound is passed."""
        assert kept.holds == self.open
        assert kept.slots == self.slots() <= self.max_slots
        for window, spent in _newest(kept.spent).items():
            assert spent == self.spent(window) <= self.ceilings[window]
        for rate, tat in self.tats.items():
            assert kept.tats.get(rate, tat if tat < now else None) == tat, "a rate is forgotten once it is whole again"
        for grants in self.grants.values():
            within_the_rate(grants)


def within_the_rate(grants: Sequence[Grant]) -> None:
    """Between any two moments no more was granted than the rate allows.

    What came back counts for nothing; where it came back from a request that was granted before, it was granted anew.
    """
    for first in grants:
        for last in grants:
            if first.now > last.now:
                continue
            inside = [grant for grant in grants if first.now <= grant.now <= last.now]
            before = sum(max(grant.back, 0) for grant in grants if not first.now <= grant.now <= last.now)
            kept = sum(grant.cost - max(grant.back, 0) for grant in inside)
            assert kept <= max(grant.depth for grant in inside) + last.now - first.now + before


def _newest(spent: dict[str, int]) -> dict[str, int]:
    """The windows that a store must still know: the three newest of each period."""
    periods: dict[int, list[str]] = {}
    for window in sorted(spent):
        periods.setdefault(len(window), []).append(window)
    return {window: spent[window] for windows in periods.values() for window in windows[-3:]}
