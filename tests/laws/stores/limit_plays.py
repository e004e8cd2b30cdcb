"""Plays about meters: what sixteen processes reserve, settle and end at the same moment.

``what`` is a number of rounds. Each process answers how much it was granted, or what it ended.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from penstock.core.ports import Store
from penstock.schema.meter import SECOND, Claim, Draw, Hold, Settlement, overdue

T0 = 1_795_219_200 * SECOND
"""A moment of the day that the budget is for: the same one in every process, whenever it was started."""
LATER = T0 + 600 * SECOND
DAY = "2026-11-21"
BURST, SLOTS, NANOS, CENT = 40, 20, 1000, 25
"""What there is of each; a claim of money is of a ``CENT``."""
Start = Callable[[], None]


def rate(meter: str = "key#rate", burst: int = BURST) -> Claim:
    """One request of a burst; within these plays the clock stands still, so that none comes back."""
    return Claim(meter, draws=(Draw("requests", SECOND, burst * SECOND),))


def slot(meter: str = "key#slots") -> Claim:
    """One slot."""
    return Claim(meter, slots=1, max_slots=SLOTS, held=True)


def money(meter: str = "owner#money") -> Claim:
    """One cent of a budget."""
    return Claim(meter, nanos=CENT, ceilings=((DAY, NANOS), ("total", 2 * NANOS)), held=True)


def everything(me: int) -> list[Claim]:
    """A request that touches the meters of the house, of its key and of an owner; odd ones tell them backwards."""
    claims = [rate("gateway", burst=1000), slot(), money()]
    return claims[::-1] if me % 2 else claims


async def reserve(store: Store, me: int, rounds: str, start: Start, claims: list[Claim]) -> list[str]:
    """Reserve in every round; the ids of those that were granted."""
    start()
    granted = []
    for number in range(int(rounds)):
        name = f"hold-{me}-{number}"
        if not (await store.reserve(name, claims, now=T0, expires=LATER)).refusals:
            granted.append(name)
    return granted


async def reserve_requests(store: Store, me: int, rounds: str, start: Start) -> list[str]:
    """Everybody takes requests of one rate."""
    return await reserve(store, me, rounds, start, [rate()])


async def reserve_slots(store: Store, me: int, rounds: str, start: Start) -> list[str]:
    """Everybody takes slots of one meter."""
    return await reserve(store, me, rounds, start, [slot()])


async def reserve_money(store: Store, me: int, rounds: str, start: Start) -> list[str]:
    """Everybody takes money of one budget."""
    return await reserve(store, me, rounds, start, [money()])


async def reserve_everything(store: Store, me: int, rounds: str, start: Start) -> list[str]:
    """Everybody takes of three meters together, some in one order and some in the other."""
    return await reserve(store, me, rounds, start, everything(me))


async def reserve_one_id(store: Store, _: int, __: str, start: Start) -> bool:
    """Everybody makes the same reservation, as the repeats of one whose answer was lost."""
    start()
    return not (await store.reserve("hold-1", [slot(), money()], now=T0, expires=LATER)).refusals


async def spend(store: Store, me: int, rounds: str, start: Start) -> dict[str, int]:
    """Everybody reserves and settles in turn, at another price each time; how often, and what it came to."""
    start()
    told = {"granted": 0, "nanos": 0}
    for number in range(int(rounds)):
        name, nanos, claims = f"hold-{me}-{number}", (me + number) % CENT, everything(me)
        if (await store.reserve(name, claims, now=T0, expires=LATER)).refusals:
            continue
        holds = [hold for claim in claims if (hold := claim.hold(name, LATER))]
        assert await store.settle([Settlement(hold, nanos if hold.windows else 0) for hold in holds]) == 2
        told = {"granted": told["granted"] + 1, "nanos": told["nanos"] + nanos}
    return told


async def end(store: Store, me: int, _: str, start: Start) -> dict[str, Any]:
    """Some end what has expired, some reserve where it stands in the way, and the dead ones themselves settle late."""
    start()
    if me % 3 == 0:
        ended = await store.end_expired(LATER)
        return {"ended": [f"{hold.id} {hold.meter}" for hold in ended]}
    if me % 3 == 1:
        verdict = await store.reserve(f"new-{me}", [slot(), money()], now=LATER, expires=LATER + 600 * SECOND)
        return {"granted": not verdict.refusals}
    return {"late": await store.settle(overdue(holds_of_the_dead(), LATER))}


def holds_of_the_dead(count: int = SLOTS) -> list[Hold]:
    """What ``count`` processes held when they died."""
    claims = slot(), money()
    return [hold for n in range(count) for claim in claims if (hold := claim.hold(f"dead-{n}", LATER))]


PLAYS = (reserve_requests, reserve_slots, reserve_money, reserve_everything, reserve_one_id, spend, end)
