"""A refusal in words: which limit, what is left of it, when to come again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from penstock.core.limits.terms import ADDRESS, ENDPOINT, GATEWAY, KEY, MODEL, OWNER, Need, Rated, Terms
from penstock.errors import BudgetExceeded, ModelFull, PenstockError, RateLimited, RequestTooLarge
from penstock.schema.limit import window_ends
from penstock.schema.meter import SECOND, SLOTS, Refusal
from penstock.schema.price import dollars

SOON = 1.0
"""Seconds after which to come again where nobody can tell when a request of another ends."""

TOO_MANY = "Request exceeds max token limit"
"""By these words clients of old know it."""

WHOSE = {
    GATEWAY: "this gateway",
    ENDPOINT: "this endpoint",
    MODEL: "this model",
    KEY: "this API key",
    OWNER: "the owner of this API key",
    ADDRESS: "your address",
}
_PERIODS = {10: "daily", 8: "weekly", 7: "monthly", 5: "total"}


def explain(refusals: Sequence[Refusal], terms: Sequence[Terms], need: Need) -> tuple[PenstockError, str, str]:
    """The error of a refused request, and the scope and the kind of the limit that counts: money first, which no wait
    brings back, else what takes longest.
    """
    by_meter = {each.meter: each for each in terms}
    found = [_one(refusal, by_meter[refusal.meter], need) for refusal in refusals]
    return max(found, key=lambda each: (isinstance(each[0], BudgetExceeded), each[0].retry_after or 0.0))


def rate_of(refusal: Refusal, terms: Terms) -> Rated | None:
    """The rate that refused, if it was one."""
    return next((rate for rate in terms.requests + terms.tokens if rate.name == refusal.what), None)


def too_large(rate: Rated, need: int) -> RequestTooLarge:
    """The error of a request that a limit of tokens could never admit."""
    words = f"it asks for up to {need} tokens, and {WHOSE[rate.scope]} may use {rate.per_minute} a minute"
    return _too_many(f"{words}. Ask for fewer.", "max_tokens")


def too_long(guess: int, longest: int, param: str) -> RequestTooLarge:
    """The error of a prompt that likely has more tokens than one may have."""
    return _too_many(f"its prompt has about {guess} tokens, and {longest} are allowed here.", param)


def _too_many(words: str, param: str) -> RequestTooLarge:
    error = RequestTooLarge(f"{TOO_MANY}: {words}", param=param)
    error.summary = TOO_MANY
    return error


def _one(refusal: Refusal, terms: Terms, need: Need) -> tuple[PenstockError, str, str]:
    rate = rate_of(refusal, terms)
    whose = WHOSE[rate.scope if rate else terms.scope]
    if rate is not None:
        seconds = (refusal.wait or 0) / SECOND
        return _limited(_rate_words(rate, rate in terms.tokens, need, whose), seconds), rate.scope, rate.name.split()[0]
    if refusal.what == SLOTS:
        words = f"{terms.slots} requests at a time are allowed for {whose}, and as many are under way"
        kind = ModelFull if terms.scope == MODEL else RateLimited
        return _limited(words, SOON, kind), terms.scope, "concurrency"
    period = _PERIODS[len(refusal.what)]
    ends = window_ends(refusal.what)
    renewed = f" It is renewed at {datetime.fromtimestamp(ends, UTC):%Y-%m-%dT%H:%M:%SZ}." if ends else ""
    error = BudgetExceeded(
        f"You exceeded your current quota: of the {period} budget of {whose}, {_dollars(max(refusal.room, 0))} is left,"
        f" and this request may cost {_dollars(need.nanos)}.{renewed}"
    )
    return error, terms.scope, f"{period} budget"


def _rate_words(rate: Rated, tokens: bool, need: Need, whose: str) -> str:
    if tokens:
        return f"{rate.per_minute} tokens a minute are allowed for {whose}, and this request may take {need.tokens}"
    burst = rate.depth // rate.interval
    return f"{rate.per_minute} requests a minute, {burst} of them at once, are allowed for {whose}"


def _limited(words: str, seconds: float, kind: type[RateLimited] = RateLimited) -> RateLimited:
    return kind(f"Rate limit exceeded: {words}. Try again in {seconds:.3g} seconds.", retry_after=seconds)


def _dollars(nanos: int) -> str:
    return f"${dollars(nanos):.9f}".rstrip("0").rstrip(".")
