"""Blocks of permits: granted by the store in one write, spent here, request by request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from penstock.core.limits.terms import Need, Terms
from penstock.schema.meter import SECOND, Claim, Hold, Settlement

LARGEST = 4096
"""Requests in one block at most."""
CAPACITY = 10_000
SHARE = 8
"""A block takes no more than this part of what a limit allows at once, so that one process leaves some to others."""


@dataclass(slots=True)
class Block:
    """What is left of a block. It ends at ``ends`` on the monotonic clock, in nanoseconds, and no later than at
    ``until`` since the epoch: the first one stands still while the machine sleeps. ``size`` are the requests,
    ``granted`` the tokens that it began with.
    """

    terms: Terms
    hold: Hold | None
    requests: int
    tokens: int
    nanos: int
    ends: int
    until: int
    size: int
    granted: int
    under_way: int = 0
    retired: bool = False


class Leases:
    """The blocks of this process, one for each meter at a time. ``settle`` takes the end of a block's hold."""

    def __init__(self, settle: Callable[[Settlement], None]) -> None:
        self._settle = settle
        self._blocks: dict[str, Block] = {}
        self._turns: dict[str, asyncio.Lock] = {}

    def take(self, terms: Terms, need: Need) -> Block | None:
        """Take one request out of the present block; ``None`` if it has none left, or has ended."""
        block = self._blocks.get(terms.block)
        if (
            block is None
            or block.retired
            or not block.requests
            or time.monotonic_ns() >= block.ends
            or time.time_ns() >= block.until
            or (terms.tokens and block.tokens < need.tokens)
            or (terms.budget and block.nanos < need.nanos)
        ):
            return None
        block.requests -= 1
        block.tokens -= need.tokens
        block.nanos -= need.nanos
        block.under_way += 1
        return block

    def put_back(self, block: Block, need: Need, *, tokens: int = 0, nanos: int = 0, begun: bool = True) -> None:
        """End a request that took ``need`` and came to ``tokens`` and ``nanos``, or was not ``begun`` at all."""
        block.requests += not begun
        block.tokens += need.tokens - tokens
        block.nanos += need.nanos - nanos
        block.under_way -= 1
        if block.retired:
            self._end(block)
        elif not (block.requests or block.under_way):
            self._retire(block)

    def turn(self, terms: Terms) -> asyncio.Lock:
        """The lock under which a block of this meter is asked for."""
        if len(self._turns) >= CAPACITY:
            self._forget()
        return self._turns.setdefault(terms.block, asyncio.Lock())

    def size(self, terms: Terms, need: Need) -> int:
        """How many requests the next block shall be good for: twice as many if the last one was used up in time."""
        last = self._blocks.get(terms.block)
        wanted = 1
        if last is not None:
            wanted = last.size * 2 if time.monotonic_ns() < last.ends else last.size - last.requests
        most = [LARGEST]
        most += (rate.depth // SHARE // rate.interval for rate in terms.requests)
        if need.tokens:
            most += (rate.depth // SHARE // (rate.interval * need.tokens) for rate in terms.tokens)
        if terms.budget and need.nanos:
            most += (ceiling // SHARE // need.nanos for _, ceiling in terms.budget.ceilings(time.time()))
        return max(1, min(wanted, *most))

    def open(self, terms: Terms, claim: Claim, hold: Hold | None, size: int, *, now: int, began: int) -> None:
        """Spend from this block from now on. It was asked for at ``now``, and at ``began`` on the monotonic clock."""
        last = self._blocks.get(terms.block)
        if last is not None:
            self._retire(last)
        elif len(self._blocks) >= CAPACITY:
            self._forget()
        reserved = zip(claim.reserves, terms.tokens, strict=True)
        tokens = min((draw.cost // rate.interval for draw, rate in reserved), default=0)
        ends, until = began + terms.lease, now + terms.lease
        block = self._blocks[terms.block] = Block(terms, hold, size, tokens, claim.nanos, ends, until, size, tokens)
        if hold is not None:
            asyncio.get_running_loop().call_later(terms.lease / SECOND, self._retire, block)

    def retire(self, terms: Terms) -> None:
        """Spend no more from the present block of a meter, so that what is left of it can be granted anew."""
        block = self._blocks.get(terms.block)
        if block is not None:
            self._retire(block)

    def close(self) -> None:
        """Retire every block; those without a request under way are settled."""
        for block in self._blocks.values():
            self._retire(block)

    def _forget(self) -> None:
        """Let go of blocks that nobody spends from any more."""
        now = time.monotonic_ns()
        for name, block in list(self._blocks.items()):
            if block.ends <= now:
                self._retire(self._blocks.pop(name))
        self._turns = {name: turn for name, turn in self._turns.items() if turn.locked() or name in self._blocks}

    def _retire(self, block: Block) -> None:
        if not block.retired:
            block.retired = True
            self._end(block)

    def _end(self, block: Block) -> None:
        """Settle a block that is neither spent from nor waited for any more."""
        if block.hold is not None and not block.under_way:
            tokens = block.granted - block.tokens
            used = tuple((rate.name, tokens * rate.interval) for rate in block.terms.tokens)
            self._settle(Settlement(block.hold, block.hold.nanos - block.nanos, used, time.time_ns()))
