"""The story of a request on one page: look among kept answers, admit, route, call, settle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from penstock.core.account import Account, Attempting
from penstock.core.fold import fold
from penstock.core.json import to_json
from penstock.core.limits.estimate import NOTHING, need_of, refuse_longer
from penstock.core.limits.limiter import Limiter
from penstock.core.limits.terms import Need, Terms
from penstock.core.metering import Ledger
from penstock.core.ports import Call, Connection
from penstock.core.prices import Catalog
from penstock.core.registry import ModelRegistry
from penstock.core.routing.place import Place
from penstock.core.routing.router import Router
from penstock.core.routing.tries import Tries
from penstock.core.routing.warming import Start, Warming
from penstock.core.streams import AsItCame, Relay, read_usage
from penstock.core.tracer import Tracer
from penstock.errors import (
    BudgetExceeded,
    JobsOnly,
    NoDeploymentAvailable,
    PenstockError,
    PermissionDenied,
    RateLimited,
    UpstreamProtocolError,
    UpstreamRefused,
    UpstreamTimeout,
)
from penstock.schema.model import Deployment
from penstock.schema.request import EMBEDDINGS, IMAGES, INFER, Request

if TYPE_CHECKING:
    from penstock.core.cache.answers import Answers
    from penstock.core.cache.kept import Kept
    from penstock.core.classification.chooser import Classification
    from penstock.core.condensing.condenser import Condenser
    from penstock.core.memory import MemoryGuard

ANSWERS = {EMBEDDINGS: "data", IMAGES: "data", INFER: "output"}
"""Where the answer stands in its document, if not among ``choices``."""


class Gateway:
    """Serves requests that a dialect has read, and writes one outcome for each.

    ``defers`` says that requests may become jobs because a place sleeps. With a ``cache`` of answers, requests that say
    what they want of it may be served from there; while ``memory`` is short, no new ones are taken.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        router: Router,
        ledger: Ledger,
        limiter: Limiter,
        prices: Catalog,
        *,
        start: Start | None = None,
        defers: bool = False,
        cache: Answers | None = None,
        memory: MemoryGuard | None = None,
        condenser: Condenser | None = None,
        attempts: int = 3,
        cap: int = 4096,
        classification: Classification | None = None,
        tracer: Tracer | None = None,
        longest: int | None = None,
    ) -> None:
        self.registry = registry
        self.router = router
        self.warming = Warming(router, registry.connection, start)
        self.ledger = ledger
        self.limiter = limiter
        self.prices = prices
        self.defers = defers
        self.cache = cache
        self.memory = memory
        self.condenser = condenser
        self._attempts = attempts
        self._cap = cap
        self.classification = classification
        self.aliases = classification.aliases if classification else {}
        self.tracer = tracer
        self._longest = longest

    async def complete(self, request: Request, answers: Connection | None = None) -> bytes:
        """A whole answer, as JSON under the public model's name.

        Tries the model's deployments in order until one answers, all under one deadline. That of a request that a
        worker has taken by itself is what ``answers`` tells.

        Raises ``CallerError``, ``UpstreamError`` or ``NoDeploymentAvailable``.
        """
        with self._account(request) as account:
            account.answers = answers
            if request.freshness is not None and (kept := await self._kept(account)) is not None:
                return await kept.whole(request.endpoint)
            body = await self._answer(account)
            if account.turn is not None:
                account.turn.answered(body)
            if request.keep is not None:  # the outcome first, once an id; the money last, or else by who runs it again
                account.record(None)
                await self.ledger.flush()
                request.abandoned = True
                request.abandoned = not await request.keep(body)
            return body

    async def stream(self, request: Request) -> AsyncGenerator[list[bytes], None]:
        """Batches of SSE payloads under the public model's name; ending means that the answer is whole.

        Until the first batch a failure moves the request on to the next deployment; after it, it is raised.
        Closing the generator closes the upstream call at once and settles what was produced.
        """
        with self._account(request) as account:
            if request.freshness is not None and (kept := await self._kept(account)) is not None:
                for batch in kept.batches(request):
                    account.first_at = account.first_at or time.perf_counter()
                    yield batch
                return
            await self._admit(account)
            while place := await self._next(account):
                with Attempting(account, place, self.router) as call:
                    relay = account.relay = self._relay(account)
                    async with aclosing(self.registry.connection(place.deployment).stream(call)) as batches:
                        async for batch in batches:
                            if out := relay.see(batch):
                                if account.first_at is None:
                                    account.first_at = time.perf_counter()
                                    request.dropped = call.dropped
                                yield out
                    if account.first_at is None:
                        raise UpstreamProtocolError(f"{place.deployment.provider} sent a stream without a single chunk")
                    if account.turn is not None:
                        account.turn.streamed()
                    return
            raise account.exhausted()

    async def hand_over(self, request: Request) -> Call:
        """Admit a request that a worker has taken by itself, and answer the call that it shall make.

        What is reserved is found again when its answer comes, under the same id. Raises as ``complete`` does.
        """
        assert request.worker is not None
        account = self._account(request)
        await self._admit(account)
        return account.begin(request.worker)

    async def admit(self, request: Request) -> bool:
        """Check a request that is to run later, and have its limits of requests admit it now.

        Answers whether it must wait for a worker that asks for jobs. Raises ``CallerError``, or ``StateError`` if
        nobody can tell. That no place is ready now is no reason.
        """
        waits = False
        try:
            await self._candidates(request)
        except NoDeploymentAvailable as error:
            waits = isinstance(error, JobsOnly)
        await self._count(request)
        return waits

    async def sleeps(self, request: Request) -> bool:
        """Whether the request would wait for a place that sleeps, and whose waiting requests become jobs."""
        try:
            candidates = await self._candidates(request)
        except PenstockError:
            return False  # it is told when the request is served
        if not any(place.cold_start is not None and place.cold_start.job for place in candidates):
            return False
        await self.router.look_around(candidates)
        first = self.router.order(candidates, request)[0]
        cold = first.deployment.cold_start
        return cold is not None and cold.job and first.cold(time.monotonic())

    async def settled(self, request: Request) -> None:
        """Wait until the request's next one may take the slot that it held, and, where this process may not live to do
        it later, until all that it took is written.
        """
        if self.ledger.immediate:
            told = (self.router.board.settled(),) if self.router.board is not None else ()
            kept = (self.cache.settled(),) if self.cache is not None else ()
            await asyncio.gather(self.ledger.settled(), self.limiter.settled(), *told, *kept)
        elif request.slotted:
            await self.limiter.settled()

    async def close(self) -> None:
        """Wake nobody any more, and tell the others what is left to tell."""
        await self.warming.close()
        if self.router.board is not None:
            await self.router.board.close()

    def _account(self, request: Request) -> Account:
        if self.tracer is not None and request.trace is None:
            request.trace = self.tracer.begin()
        return Account(request, self.ledger, self.limiter, self.prices, self.condenser)

    def _relay(self, account: Account) -> Relay | AsItCame:
        return account.turn.relay() if account.turn is not None else _relay(account.request)

    async def _check(self, request: Request) -> None:
        """Raise what stands in the way of any request, or of this one's key; choose its model if it names an alias."""
        self.ledger.check()
        if self.memory is not None and not request.admitted:
            self.memory.check()
        if request.model in self.aliases and self.classification is not None:
            await self.classification.choose(request, self)
        if not request.caller.may_use(request.model):
            raise PermissionDenied(f"This API key may not use the model {request.model!r}.", param="model")
        if self._longest is not None:
            refuse_longer(request, self._longest)

    async def _count(self, request: Request) -> None:
        """Have the limits of requests admit it, and nothing else: it takes no tokens, money or slot."""
        terms = [part for each in self.limiter.terms(request) if (part := each.of_requests())]
        reservation = await self.limiter.reserve(request, terms, NOTHING)
        self.limiter.settle(reservation, tokens=0, nanos=0)

    async def _kept(self, account: Account) -> Kept | None:
        """The kept answer to a request, which counts as one; ``None`` if it is to be made, and perhaps kept then."""
        request = account.request
        await self._check(request)
        self.limiter.refuse_known(request)
        assert self.cache is not None
        account.turn = await self.cache.turn(request)
        if account.turn is None or (kept := account.turn.kept) is None:
            return None
        await self._count(request)
        if terms := self.limiter.terms(request):
            request.standing = self.limiter.standing(terms)
        request.deployment, request.provider, request.dropped = kept.deployment, kept.provider, kept.dropped
        return kept

    async def _candidates(self, request: Request) -> Sequence[Deployment]:
        """Who may serve the request."""
        await self._check(request)
        worker = request.worker
        found = (worker,) if worker else await self.registry.candidates(request.model, request.caller)
        if request.local and self.classification is not None:
            return self.classification.only_local(found)
        return found

    async def _answer(self, account: Account) -> bytes:
        """The whole answer of the first place that gives one."""
        request = account.request
        await self._admit(account)
        while place := await self._next(account):
            with Attempting(account, place, self.router) as call:
                if request.tell is None:
                    body, document = await self._connection(account, place).complete(call)
                else:
                    body, document = b"", await fold(self._telling(account, place, call), request.endpoint)
                request.dropped = call.dropped
                account.reported = read_usage(document.get("usage"))
                found: Any = document.get(ANSWERS.get(request.endpoint, "choices"))
                if not found and request.endpoint != INFER:
                    raise UpstreamProtocolError(f"{place.deployment.provider} answered 200 without an answer in it")
                if request.endpoint == IMAGES:  # megabytes, which name no model
                    call.images = len(found)
                elif document.get("model") != request.model or not body:
                    document["model"] = request.model
                    body = to_json(document)
                return body
        raise account.exhausted()

    def _connection(self, account: Account, place: Place) -> Connection:
        return account.answers or self.registry.connection(place.deployment)

    async def _telling(self, account: Account, place: Place, call: Call) -> AsyncGenerator[list[bytes], None]:
        """The batches of a stream as they come, each told in passing as the caller is to see it."""
        request = account.request
        assert request.tell is not None
        relay = account.relay = _relay(request)
        async with aclosing(self._connection(account, place).stream(call)) as batches:
            async for batch in batches:
                if out := relay.see(batch):
                    if account.first_at is None:
                        account.first_at = time.perf_counter()
                        request.dropped = call.dropped
                    request.tell(out)
                yield batch

    async def _admit(self, account: Account) -> None:
        """Put the places to try in order, and have every limit and budget admit the request."""
        request = account.request
        candidates = await self._candidates(request)
        await self.router.look_around(candidates)
        places = self.router.order(candidates, request)
        account.tries = Tries(places, request, self._attempts)
        account.forlorn = not places[0].serves(time.monotonic())
        for place in self.router.passed_over(places):
            self.warming.wake(place)
        if terms := self.limiter.terms(request):
            account.prices = [self.prices.price(place.deployment) for place in places]
            try:
                account.need = self._need(account, terms)
                account.reservation = await self.limiter.reserve(request, terms, account.need)
            except PenstockError:
                request.standing = request.standing or self.limiter.standing(terms)
                raise
            request.slotted = account.reservation.slots
        if request.accepted is not None:
            await request.accepted()

    def _need(self, account: Account, terms: Sequence[Terms]) -> Need:
        """The most that the request may take, wherever it is served."""
        request = account.request
        return need_of(request, terms, account.prices, request.cap or self._cap)

    async def _next(self, account: Account) -> Place | None:
        """The place to try now, or ``None`` if there is none any more.

        Where an attempt that failed is to be paid for, it is settled and reserved anew for another: what is left may
        not do for both. Raises that attempt's failure if it does not.
        """
        if account.overflow is not None:
            return await self._condensed(account, *account.overflow)
        while place := await account.tries.next():
            if account.reservation is not None and account.owed.to_be_paid:
                account.settle()
                request = account.request
                try:
                    account.reservation = await self.limiter.reserve(request, self.limiter.terms(request), account.need)
                except (RateLimited, BudgetExceeded):
                    raise account.exhausted() from None
            if place.deployment.cold_start is None or await self._warm(place, account):
                return place
        return None

    async def _condensed(self, account: Account, place: Place, refusal: UpstreamRefused) -> Place:
        """The place that refused a request for its length, once that is shorter. Raises the refusal if it cannot be.

        What is reserved is given back meanwhile: who sums it up has a reservation of its own, out of the same limits.
        """
        assert self.condenser is not None
        request, account.overflow = account.request, None
        account.settle()
        await self.settled(request)
        await self.condenser.condense(request, refusal, self._summed_up)
        if account.reservation is not None:
            terms = self.limiter.terms(request)
            rest = [part for each in terms if (part := each.of_the_rest())]  # it is the same request still
            account.need, standing = self._need(account, rest), request.standing
            account.reservation = await self.limiter.reserve(request, rest, account.need)
            request.standing = standing or request.standing
        return place

    async def _summed_up(self, request: Request) -> bytes:
        """The answer to a request of the house's for a caller, once its slot is free for the next."""
        try:
            return await self.complete(request)
        finally:
            await self.settled(request)

    async def _warm(self, place: Place, account: Account) -> bool:
        """Have a place woken if it sleeps; ``False`` if it did not wake up in time."""
        began = time.perf_counter()
        if place.cold(time.monotonic()):
            try:
                await self.warming.wait(place, account.request)
            except UpstreamTimeout as error:
                account.failed(place, error, time.perf_counter() - began)
                return False
        return True


def _relay(request: Request) -> Relay | AsItCame:
    """Who looks at the stream of a request as it passes."""
    return AsItCame() if request.endpoint == INFER else Relay(request.model, show_usage=request.wants_usage)
