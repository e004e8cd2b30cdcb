"""Admits a request against every limit and budget that it touches, and settles what it came to."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from random import getrandbits

from penstock.core.counters import Counter
from penstock.core.limits.estimate import NOTHING
from penstock.core.limits.leases import Block, Leases
from penstock.core.limits.local import LocalMeters
from penstock.core.limits.reaper import tell_lost
from penstock.core.limits.refusals import explain
from penstock.core.limits.settler import Settler
from penstock.core.limits.terms import Need, Plan, Rated, Terms
from penstock.core.ports import Store
from penstock.errors import PenstockError, StateError
from penstock.schema.key import Caller
from penstock.schema.limit import Allowance, Standing
from penstock.schema.meter import SECOND, Claim, Hold, Refusal, Settlement, Verdict
from penstock.schema.request import Request

log = logging.getLogger("penstock.limits")

MARGIN = 60
"""Seconds past its request's deadline after which a hold counts as lost."""
CALLERS = 10_000
AFTER = 3.0
"""Seconds after which no attempt of a failed call to the store is under way any more: its budget is 2."""
UNDOING = 1000
GRANTED = Verdict((), {})

REFUSED = Counter("penstock_limits_refused_total", "Requests that a limit or budget refused.", ("scope", "limit"))
OPEN = Counter("penstock_limits_failed_open_total", "Requests admitted by this process's own count, the store away.")
CLOSED = Counter("penstock_limits_failed_closed_total", "Requests refused because the store could not admit them.")


@dataclass(slots=True)
class Reservation:
    """What a request has reserved: holds of its own, and its share of blocks."""

    need: Need
    holds: list[tuple[Terms, Hold]] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    slots: bool = False
    ended: bool = False


class Limiter:
    """The limits of one process, exact across all processes of its store.

    With ``fail_open``, rates are counted in this process alone while the store is away; slots are not, and a request
    that money is at stake for is refused.
    """

    def __init__(self, store: Store, plan: Plan, *, fail_open: bool = True) -> None:
        self.plan = plan
        self._store = store
        self._fail_open = fail_open
        self._settler = Settler(store)
        self._leases = Leases(self._settler.add)
        self._local = LocalMeters()
        self._shared: dict[str, Terms | None] = {}
        self._models = {model: plan.of_model(model) for model in plan.models}
        self._callers: dict[str, tuple[Caller, tuple[Terms, ...]]] = {}
        self._addresses: dict[str, Terms | None] = {}
        self._refused: dict[str, tuple[int, Refusal, Terms]] = {}
        self._tats: dict[tuple[str, str], int] = {}
        self._undoing: dict[tuple[str, str], tuple[asyncio.TimerHandle, Hold]] = {}

    def terms(self, request: Request) -> list[Terms]:
        """What holds for a request: of the house, its model and alias, its key, its owner, its address."""
        endpoint, caller = request.endpoint, request.caller
        if endpoint not in self._shared:
            self._shared[endpoint] = self.plan.shared(endpoint)
        known = self._callers.get(caller.key_id)
        if known is None or known[0] is not caller:
            if len(self._callers) >= CALLERS:
                self._callers.clear()
            known = self._callers[caller.key_id] = (caller, self.plan.of_caller(caller))
        shared, model = self._shared[endpoint], self._models.get(request.model)
        found = [terms for terms in (shared, model, *known[1], self._of_address(request.address)) if terms is not None]
        if request.classified is not None and (alias := self._models.get(request.classified.alias)):
            found.append(alias)
        if request.admitted:
            return [rest for terms in found if (rest := terms.of_the_rest())]
        return found

    def _of_address(self, address: str) -> Terms | None:
        if address not in self._addresses:
            if len(self._addresses) >= CALLERS:
                self._addresses.clear()
            self._addresses[address] = self.plan.of_address(address) if address else None
        return self._addresses[address]

    async def reserve(self, request: Request, terms: Sequence[Terms], need: Need) -> Reservation:
        """Admit a request, or raise ``RateLimited`` or ``BudgetExceeded``; ``StateError`` if nobody can tell.

        ``request.standing`` tells afterwards how its limits stand.
        """
        reservation = Reservation(need)
        request.reservations += 1
        if terms:
            self._settler.check()
            self._refuse_known(request, terms, need)
            try:
                await self._reserve(request, terms, reservation)
            except BaseException:
                self._give_up(reservation)
                raise
        return reservation

    def refuse_known(self, request: Request) -> None:
        """Raise at once what this process knows that a reservation would: for what comes before one."""
        self._refuse_known(request, self.terms(request), NOTHING)

    def settle(self, reservation: Reservation, *, tokens: int, nanos: int) -> None:
        """End a reservation with what its request came to; a second time changes nothing."""
        if reservation.ended:
            return
        reservation.ended = True
        need = reservation.need
        for block in reservation.blocks:
            self._leases.put_back(block, need, tokens=tokens, nanos=nanos)
        for terms, hold in reservation.holds:
            used = tuple((rate.name, tokens * rate.interval) for rate in terms.tokens)
            self._settler.add(Settlement(hold, nanos if hold.windows else 0, used, time.time_ns()))

    async def settled(self) -> None:
        """Wait until all that was settled is written."""
        await asyncio.shield(self._settler.flush())

    def rest(self) -> None:
        """Give back what no request is using: others are served by another limiter from now on."""
        self._leases.close()

    async def close(self) -> None:
        """Settle every block and all that waits."""
        self._leases.close()
        for handle, hold in list(self._undoing.values()):
            handle.cancel()
            self._free(hold)
        await self._settler.close()

    def _refuse_known(self, request: Request, terms: Sequence[Terms], need: Need) -> None:
        """Refuse at once what a store has refused before for a time that is not over: a flood costs no state calls."""
        now = time.monotonic_ns()
        for each in terms:
            known = self._refused.get(each.block)
            if known is None:
                continue
            until, refusal, under = known
            if until > now and under == each:
                refusal = refusal._replace(wait=until - now)
                raise self._error(request, terms, [refusal], need)
            del self._refused[each.block]

    async def _reserve(self, request: Request, terms: Sequence[Terms], reservation: Reservation) -> None:
        """Take from blocks what can be taken, and ask the store for the rest in one call."""
        lacking, claims = [], []
        for each in terms:
            if not each.leases(reservation.need):
                claims.append(each)
            elif block := self._leases.take(each, reservation.need):
                reservation.blocks.append(block)
            else:
                lacking.append(each)
        if not lacking:
            if claims:
                await self._ask(request, terms, claims, [], reservation)
            else:
                request.standing = self.standing(terms)
            return
        async with AsyncExitStack() as turns:
            for each in sorted(lacking, key=lambda each: each.block):  # one order for all, so that nobody is stuck
                await turns.enter_async_context(self._leases.turn(each))
            still = [each for each in lacking if not self._take(each, reservation)]  # another may have brought one
            await self._ask(request, terms, claims, still, reservation)

    def _take(self, terms: Terms, reservation: Reservation) -> bool:
        block = self._leases.take(terms, reservation.need)
        if block is not None:
            reservation.blocks.append(block)
        return block is not None

    async def _ask(
        self,
        request: Request,
        terms: Sequence[Terms],
        single: Sequence[Terms],
        blocks: Sequence[Terms],
        reservation: Reservation,
        *,
        waited: bool = False,
    ) -> None:
        """Have the store grant this request on some meters, and a block on others."""
        need, grant = reservation.need, f"{request.id}.{_number(request)}"
        sizes = [self._leases.size(each, need) for each in blocks]
        now, began = time.time_ns(), time.monotonic_ns()
        claims = [each.claim(need, now) for each in single]
        claims += [each.claim(need, now, block=size) for each, size in zip(blocks, sizes, strict=True)]
        expires = now + int((request.deadline - asyncio.get_running_loop().time() + MARGIN) * SECOND)
        verdict, kept = await self._verdict(grant, claims, now, expires) if claims else (GRANTED, True)
        if verdict.refusals:
            at_fault = {refusal.meter for refusal in verdict.refusals}
            for each in blocks:
                self._leases.retire(each)
            if self._settler.waits and not waited:  # what was given back in this process may be just what lacks
                await self._settler.flush()
                await self._ask(request, terms, single, blocks, reservation, waited=True)
                return
            if at_fault.isdisjoint(each.meter for each in blocks):
                self._know(verdict)
                self._remember(terms, verdict.refusals, began)
                raise self._error(request, terms, verdict.refusals, need)
            alone = [each for each in blocks if each.meter in at_fault]  # too much for a block may do for one request
            others = [each for each in blocks if each.meter not in at_fault]
            await self._ask(request, terms, [*single, *alone], others, reservation, waited=waited)
            return
        holds = [claim.hold(grant, expires) if kept else None for claim in claims]
        for each, hold in zip(single, holds, strict=False):
            if hold is not None:
                reservation.holds.append((each, hold))
                reservation.slots = reservation.slots or bool(hold.slots)
        for number, each in enumerate(blocks, len(single)):
            size = sizes[number - len(single)]
            self._leases.open(each, claims[number], holds[number], size, now=now, began=began)
        self._know(verdict)
        late = [each for each in blocks if not self._take(each, reservation)]
        if late:  # the store took longer to answer than a block lasts
            await self._ask(request, terms, late, [], reservation)
        request.standing = self.standing(terms)

    async def _verdict(self, id: str, claims: Sequence[Claim], now: int, expires: int) -> tuple[Verdict, bool]:
        """The store's word, or this process's own where it may go on without; and whether a store keeps the holds."""
        try:
            verdict = await self._store.reserve(id, claims, now=now, expires=expires)
            tell_lost(verdict.lost)
            return verdict, True
        except (StateError, asyncio.CancelledError) as error:
            self._undo([hold for claim in claims if (hold := claim.hold(id, expires))])
            if isinstance(error, StateError) and (not self._fail_open or any(claim.nanos for claim in claims)):
                CLOSED.add()
                raise
            if not isinstance(error, StateError):
                raise
        OPEN.add()
        return self._local.reserve(claims, now), False

    def _undo(self, holds: Sequence[Hold]) -> None:
        """Free what may have been granted though no answer came, once no attempt at it can be on its way any more."""
        for hold in holds:
            if len(self._undoing) < UNDOING:
                loop = asyncio.get_running_loop()
                self._undoing[hold.id, hold.meter] = loop.call_later(AFTER, self._free, hold), hold

    def _free(self, hold: Hold) -> None:
        del self._undoing[hold.id, hold.meter]
        self._settler.add(Settlement(hold, at=time.time_ns()))

    def _give_up(self, reservation: Reservation) -> None:
        """Free what a request took that is not to begin."""
        reservation.ended = True
        for block in reservation.blocks:
            self._leases.put_back(block, reservation.need, begun=False)
        for _, hold in reservation.holds:
            self._settler.add(Settlement(hold, at=time.time_ns()))

    def _error(
        self, request: Request, terms: Sequence[Terms], refusals: Sequence[Refusal], need: Need
    ) -> PenstockError:
        """What to tell the caller."""
        error, scope, kind = explain(refusals, terms, need)
        REFUSED.add(scope, kind)
        request.standing = self.standing(terms)
        return error

    def _remember(self, terms: Sequence[Terms], refusals: Sequence[Refusal], began: int) -> None:
        """Keep in mind which rates of requests refuse, and until when: nothing but time brings those back."""
        if len(self._refused) >= CALLERS:
            self._refused.clear()
        by_meter = {each.meter: each for each in terms}
        for refusal in refusals:
            each = by_meter[refusal.meter]
            if refusal.wait is not None and any(rate.name == refusal.what for rate in each.requests):
                self._refused[each.block] = (began + refusal.wait, refusal, each)

    def _know(self, verdict: Verdict) -> None:
        if len(self._tats) >= CALLERS:
            self._tats.clear()
        self._tats |= verdict.tats

    def standing(self, terms: Sequence[Terms]) -> Standing:
        """How the tightest rates stand, as far as this process knows."""
        now = time.time_ns()
        requests = self._tightest(((each.meter, rate) for each in terms for rate in each.requests), now)
        tokens = self._tightest(((each.meter, rate) for each in terms for rate in each.tokens), now)
        return Standing(requests, tokens)

    def _tightest(self, rates: Iterable[tuple[str, Rated]], now: int) -> Allowance | None:
        least, found = 0, None
        for meter, rate in rates:
            tat = self._tats.get((meter, rate.name), 0)
            left = rate.left(tat, now)
            if found is None or left < least:
                least, found = left, (rate, tat)
        if found is None:
            return None
        rate, tat = found
        return Allowance(rate.per_minute, max(least, 0), max(tat, now) / SECOND)


def _number(request: Request) -> str:
    """What tells the grants of one request apart. A job that is run again finds those that its dead runner made."""
    return str(request.reservations) if request.admitted else f"{getrandbits(32):08x}"
