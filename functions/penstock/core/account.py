"""What one request takes on its way: its attempts, what they cost, and the outcome that it becomes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from penstock.core.limits.bill import NOTHING_YET, bill
from penstock.core.limits.estimate import NOTHING
from penstock.core.limits.limiter import Limiter, Reservation
from penstock.core.metering import Ledger
from penstock.core.ports import Call, Connection
from penstock.core.prices import Catalog
from penstock.core.routing.place import Place
from penstock.core.routing.router import Router
from penstock.core.routing.tries import Tries
from penstock.core.selected import call_to
from penstock.core.streams import AsItCame, Relay
from penstock.errors import (
    BudgetExceeded,
    JobsOnly,
    MemoryShort,
    NoDeploymentAvailable,
    NotCached,
    NoTimeLeft,
    PenstockError,
    RateLimited,
    UpstreamError,
    UpstreamRefused,
)
from penstock.schema.freshness import HIT
from penstock.schema.model import Deployment
from penstock.schema.outcome import CACHE, CANCELLED, FAILED, OK, REFUSED, Failure, Outcome, Usage
from penstock.schema.price import Price
from penstock.schema.request import Attempt, Request

if TYPE_CHECKING:
    from penstock.core.cache.answers import Turn
    from penstock.core.condensing.condenser import Condenser

UNRECORDED = (RateLimited, BudgetExceeded, JobsOnly, NotCached, MemoryShort)
"""Refusals of requests that nobody was called for."""


class Account:
    """What one request has taken so far, and the outcome that it becomes."""

    __slots__ = (
        *("_began", "_ledger", "_limiter", "_prices", "_recorded", "_started", "_taken", "again", "answers", "call"),
        *("condenser", "overflow", "prices"),
        *("deployment", "failures", "first_at", "forlorn", "last", "need", "owed", "relay", "reported", "request"),
        *("reservation", "tries", "turn"),
    )

    def __init__(
        self,
        request: Request,
        ledger: Ledger,
        limiter: Limiter,
        prices: Catalog,
        condenser: Condenser | None = None,
    ) -> None:
        self.request = request
        self.condenser = condenser
        self.overflow: tuple[Place, UpstreamRefused] | None = None
        self._ledger = ledger
        self._limiter = limiter
        self._prices = prices
        self._recorded = False
        self._started = time.time() - request.worked
        self._began = time.perf_counter() - request.worked
        self.answers: Connection | None = None
        self.turn: Turn | None = None
        self.first_at: float | None = None
        self.call: Call | None = None
        self.deployment: Deployment | None = None
        self.relay: Relay | AsItCame | None = None
        self.reported: Usage | None = None
        self.last: UpstreamError | None = None
        self.failures: list[Failure] = []
        self.again: float | None = None
        self.forlorn = False
        self.need = NOTHING
        self.prices: Sequence[Price | None] = ()
        self.reservation: Reservation | None = None
        self.owed = self._taken = NOTHING_YET
        self.tries: Tries

    def __enter__(self) -> Account:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if self.turn is not None:
            self.turn.end(error)
        if self.request.abandoned:
            return  # another runs the same again, and finds what is reserved
        if not self.request.deployment and isinstance(error, UNRECORDED):
            return  # it is counted; a ledger that kept each refusal would let a flood fill it
        self.record(error)
        self.settle()

    def record(self, error: BaseException | None) -> None:
        """Have the outcome written, once."""
        if not self._recorded:
            self._recorded = True
            self._ledger.record(self._outcome(error))

    def settle(self) -> None:
        """End what is reserved with what the attempts under it came to."""
        if self.reservation is not None:
            self._limiter.settle(self.reservation, tokens=self.owed.tokens, nanos=self.owed.nanos or 0)
        self.owed = NOTHING_YET

    def begin(self, deployment: Deployment) -> Call:
        """A call of this request to the next deployment."""
        request = self.request
        self.deployment, request.deployment, request.provider = deployment, deployment.id, deployment.provider
        self.reported = self.relay = None
        self.call = call_to(deployment, request, self.need.prompt)
        if request.trace is not None:
            self.call.trace = request.trace.headers(len(self.failures) + 1)
        return self.call

    def failed(self, place: Place, error: UpstreamError, seconds: float) -> None:
        """A place could not answer."""
        self.last = error
        if error.retry_after is not None:
            self.again = error.retry_after if self.again is None else min(error.retry_after, self.again)
        self.tries.failed(place, error)
        self.request.attempts.append(Attempt(place.deployment.id, error.code, error.message, seconds, error.injected))
        code = REFUSED if isinstance(error, UpstreamRefused) else error.code
        self.failures.append(Failure(place.deployment.id, code, round(seconds, 3)))

    def may_condense(self, place: Place, refusal: UpstreamRefused) -> bool:
        """Whether the request shall be made shorter and tried again at the same place."""
        if self.condenser is None or not self.condenser.wants(self.request, refusal):
            return False
        self.overflow = place, refusal
        return True

    def charge(self, error: BaseException | None, seconds: float) -> None:
        """Make out the bill of the attempt that has ended."""
        assert self.call is not None
        assert self.deployment is not None
        if self.relay is not None:
            self.reported = self.relay.usage
        price = self._prices.price(self.deployment)
        taken = bill(
            *(self.request, self.need, self.call), reported=self.reported, price=price, seconds=seconds, error=error
        )
        self.owed, self._taken = self.owed.plus(taken), self._taken.plus(taken)

    def exhausted(self, kind: type[NoDeploymentAvailable] = NoDeploymentAvailable) -> PenstockError:
        """The error of a request that no deployment could serve: the only one's own, or all of them told.

        Where none was well even before, that is what is wrong.
        """
        attempts = self.request.attempts
        if len(attempts) == 1 and self.last is not None and not self.forlorn:
            return self.last
        told = "; ".join(f"{attempt.deployment}: {attempt.code}" for attempt in attempts)
        return kind(
            f"No deployment of {self.request.model!r} could answer ({told}).",
            attempts=tuple(attempt.told() for attempt in attempts),
            retry_after=self.again,
        )

    def _outcome(self, error: BaseException | None) -> Outcome:
        request, now = self.request, time.perf_counter()
        ended, status, code = _ending(error)
        cached = request.cache == HIT
        return Outcome(
            request_id=request.id,
            started_at=self._started,
            duration=now - self._began,
            key_id=request.caller.key_id,
            owner=request.caller.owner,
            endpoint=request.endpoint,
            model=request.model,
            deployment=CACHE if cached else request.deployment,
            ended=ended,
            status=status,
            code=code,
            stream=request.stream,
            attempts=0 if cached else max(1, len(request.attempts) + (ended == OK)),
            ttft=self.first_at - self._began if self.first_at is not None else None,
            usage=self._taken.usage,
            usage_reported=self.reported is not None,
            cost_nanos=self._taken.nanos,
            failures=tuple(self.failures),
            trace=request.trace,
            marks=_marks(request),
        )


def _marks(request: Request) -> tuple[str, ...]:
    marks = tuple(f"chaos:{fault}" for fault in request.injected)
    return marks if request.condensed is None else (*marks, "condensed")


def _ending(error: BaseException | None) -> tuple[str, int, str]:
    """How a request ended: word, HTTP status and code. 499 is nginx's word for a client that left."""
    if error is None:
        return OK, 200, ""
    if isinstance(error, PenstockError):
        return FAILED, error.status, error.code
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return CANCELLED, 499, "client_closed_request"
    return FAILED, 500, PenstockError.code


class Attempting:
    """A block that tries one place: a failure that leaves the request whole ends the block, not the request."""

    __slots__ = ("_account", "_began", "_place", "_router")

    def __init__(self, account: Account, place: Place, router: Router) -> None:
        self._account = account
        self._place = place
        self._router = router
        self._began = time.perf_counter() - account.request.worked

    def __enter__(self) -> Call:
        self._place.began()
        return self._account.begin(self._place.deployment)

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        account, place = self._account, self._place
        seconds = time.perf_counter() - self._began
        self._router.ended(place, error, account.request.endpoint)
        account.charge(error, seconds)
        if error is None:
            first = seconds if account.first_at is None else account.first_at - self._began
            place.answered(first, seconds, account.call.payloads if account.call else 0)
            return False
        if not isinstance(error, UpstreamError):
            return False
        account.failed(place, error, seconds)
        if account.first_at is not None:
            return False
        if isinstance(error, UpstreamRefused):
            return account.may_condense(place, error)
        if asyncio.get_running_loop().time() < account.request.deadline:
            return True
        if len(account.request.attempts) > 1:
            raise account.exhausted(NoTimeLeft) from error
        return False
