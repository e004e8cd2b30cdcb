"""A provider with one fault, and what the gateway must take it for."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from tests.ports import free_port
from tests.wire import upstream as upstreams
from tests.wire.outage.answers import answer_well, number_of, streams
from tests.wire.upstream import Call, Script

BUSY = "upstream_busy"
DOWN = "upstream_unavailable"
LATE = "upstream_timeout"
ODD = "upstream_protocol_error"
NONE = ""
STATUS = {BUSY: 503, DOWN: 502, LATE: 504, ODD: 502, NONE: 200}

Address = Callable[[], AbstractAsyncContextManager[str]]


@dataclass(frozen=True, slots=True)
class Fault:
    """``code`` is what one attempt comes to; ``NONE`` where the answer must be taken all the same.

    ``late``: it shows only by waiting. ``after``: callers of a stream have seen a part of the answer by then.
    ``only`` calls that are ``streamed``, ``plain`` or ``spoken`` (no embeddings) have it; the rest is answered well.
    ``address``: it is in the connection, so that there is nobody to answer.
    """

    code: str
    act: Script = answer_well
    late: bool = False
    after: bool = False
    only: str = ""
    address: Address | None = None

    def befalls(self, call: Call) -> bool:
        """Whether this call has it."""
        if self.only == "spoken":
            return "input" not in call.json
        return not self.only or (self.only == "streamed") == streams(call)


class Catalogue(dict[str, Fault]):
    """Faults by the name of the function that has them."""

    def add(self, code: str, *, late: bool = False, after: bool = False, only: str = "") -> Callable[[Script], Script]:
        """Enter the fault that a function has."""

        def enter(act: Script) -> Script:
            self[act.__name__.replace("_", " ")] = Fault(code, act, late=late, after=after, only=only)
            return act

        return enter


class Faulty:
    """A provider with a fault, which may come and go. ``hits`` counts how often it met each question."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.url = ""
        self.broken = True
        self.hits: Counter[int] = Counter()

    async def turn(self, *, broken: bool) -> None:
        """Begin to fail, or end it."""
        self.broken = broken

    async def serve(self, call: Call) -> None:
        """Answer one call, well or not."""
        if not (self.broken and call.method == "POST" and self.fault.befalls(call)):
            await answer_well(call)
            return
        self.hits[number_of(call)] += 1
        await self.fault.act(call)


@asynccontextmanager
async def open_at(fault: Fault) -> AsyncIterator[Faulty]:
    """A provider with this fault, until the block ends."""
    faulty = Faulty(fault)
    if fault.address is not None:
        async with fault.address() as faulty.url:
            yield faulty
        return
    async with upstreams.serve(faulty.serve) as upstream:
        faulty.url = upstream.url
        yield faulty


class Mortal(Faulty):
    """A provider whose process dies, with all its connections, and is started again at the same address."""

    def __init__(self) -> None:
        super().__init__(Fault(DOWN, after=True))
        self._port = free_port()
        self._life = AsyncExitStack()
        self.url = f"http://127.0.0.1:{self._port}/v1"

    async def turn(self, *, broken: bool) -> None:
        """Die, or live again."""
        if broken != self.broken:
            self.broken = broken
            if broken:
                await self._life.aclose()
            else:
                await self._life.enter_async_context(upstreams.serve(answer_well, self._port))
