"""What a request came to, also where nobody has counted."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from penstock.core.limits.estimate import prompt_guess
from penstock.core.limits.terms import Need
from penstock.core.ports import Call
from penstock.errors import UpstreamProtocolError, UpstreamTimeout
from penstock.schema.outcome import Usage
from penstock.schema.price import Price
from penstock.schema.request import Request

GONE = (asyncio.CancelledError, GeneratorExit, UpstreamTimeout, UpstreamProtocolError)
"""After these the provider may have worked, and told nobody how much."""


class Bill(NamedTuple):
    """What an attempt took: usage, the tokens to settle, and nano-dollars (``None`` where no price is known)."""

    usage: Usage
    tokens: int
    nanos: int | None

    @property
    def to_be_paid(self) -> bool:
        """Whether there is something of it to settle."""
        return bool(self.tokens or self.nanos)

    def plus(self, other: Bill) -> Bill:
        """Both together."""
        if self is NOTHING_YET:
            return other
        mine, theirs = self.usage, other.usage
        usage = Usage(
            mine.prompt_tokens + theirs.prompt_tokens,
            mine.completion_tokens + theirs.completion_tokens,
            mine.cached_tokens + theirs.cached_tokens,
        )
        nanos = None if self.nanos is None or other.nanos is None else self.nanos + other.nanos
        return Bill(usage, self.tokens + other.tokens, nanos)


NOTHING_YET = Bill(Usage(), 0, 0)


def bill(
    request: Request,
    need: Need,
    call: Call,
    *,
    reported: Usage | None,
    price: Price | None,
    seconds: float,
    error: BaseException | None,
) -> Bill:
    """What the provider counted; else what came of a stream, and the prompt that it answers.

    An answer that nobody could watch (no stream), and whose end nobody was told, may have come to all that was
    reserved, and so it is settled. What failed in another way before it gave anything took nothing.
    """
    gone = isinstance(error, GONE)
    if error is not None and reported is None and not call.payloads and not gone:
        return NOTHING_YET
    usage = reported or (Usage(prompt_guess(request), call.payloads) if call.payloads else Usage())
    tokens = usage.total_tokens
    nanos = None if price is None else price.cost(usage, seconds=seconds, images=call.images)
    if gone and reported is None and not call.streamed:
        tokens = max(tokens, need.tokens)
        nanos = None if nanos is None else max(nanos, need.nanos)
    return Bill(usage, tokens, nanos)
