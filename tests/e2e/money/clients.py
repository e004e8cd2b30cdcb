"""The clients of the fuzz: each calls again and again, elsewhere when its gateway is gone, later when it is refused."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections import Counter
from collections.abc import Coroutine, Sequence

from tests.e2e.money.calls import BUSY, CUT, ERROR, LEAVE, QUICK, SILENT, SLOW, STALL, Call, Client
from tests.e2e.money.gateways import Fleet, Gateway
from tests.e2e.server import PATIENCE

WEIGHTS = {QUICK: 60, SLOW: 14, STALL: 8, LEAVE: 5, ERROR: 4, BUSY: 3, CUT: 4, SILENT: 2}
ALLOWED: dict[str, tuple[str, ...] | None] = {
    "": None,
    "rate_limited": None,
    "insufficient_quota": None,
    "restarting": None,
    "state_unavailable": None,
    "provider_unavailable": None,
    "upstream_timeout": None,
    "upstream_unavailable": (ERROR, CUT),
    "upstream_protocol_error": (CUT,),
    "upstream_busy": (BUSY,),
}
"""How an answer may end, and what the upstream must have done for it: ``None`` where that does not matter. The state
is busy with eight processes, and the machine with more: requests may come to their end for both. And a gateway that has
seen enough errors in a row leaves the upstream alone for a moment."""


class Load:
    """All clients together; no more than ``at_once`` of their calls are open at a time."""

    def __init__(
        self, calls: dict[int, Call], clients: Sequence[Client], fleet: Fleet, dice: random.Random, at_once: int
    ) -> None:
        self.calls = calls
        self.told: Counter[tuple[int, str]] = Counter()
        self.broken = 0
        self._clients = clients
        self._fleet = fleet
        self._dice = dice
        self._turn = asyncio.Semaphore(at_once)
        self._number = itertools.count(100_000)

    async def run(self, people: int, seconds: float) -> None:
        """So many people call for so many seconds."""
        end = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for person in range(people):
                group.create_task(self._live(self._clients[person % len(self._clients)], end))

    async def _live(self, client: Client, end: float) -> None:
        dice = self._dice
        await asyncio.sleep(dice.uniform(0, 1))
        while time.monotonic() < end:
            call = self.roll(client)
            async with self._turn:
                if time.monotonic() < end:
                    await self.make(call)
            if call.status:
                await asyncio.sleep(dice.uniform(0, 0.2) + min(call.retry_after, 2 * dice.random()))

    def roll(self, client: Client) -> Call:
        """A new call, as the dice have it."""
        dice = self._dice
        [behaviour] = dice.choices(list(WEIGHTS), list(WEIGHTS.values()))
        stream = behaviour == STALL or (behaviour != LEAVE and dice.random() < 0.5)
        tokens = dice.randint(2, 40)
        pace = dice.uniform(0.1, 0.8) / tokens if behaviour == SLOW else 0.0
        return self.new(client, behaviour=behaviour, stream=stream, tokens=tokens, part=tokens // 2, pace=pace)

    def new(self, client: Client, **fields: object) -> Call:
        """A new call."""
        call = Call(next(self._number), client, **fields)  # type: ignore[arg-type]
        self.calls[call.number] = call
        return call

    async def make(self, call: Call) -> None:
        """Make the call at a gateway that is up, and see that it ends as it may."""
        gateway = call.gateway = self._dice.choice(self._fleet.up or self._fleet.all)
        call.sent = time.time_ns()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._talk(call, gateway)
        except (OSError, asyncio.IncompleteReadError):
            call.status = 0
        if call.left:
            return
        if call.whole or call.code:
            self.told[call.status, call.code] += 1
            allowed = ALLOWED.get(call.code, ())
            assert allowed is None or call.behaviour in allowed, call
        else:
            self.broken += 1
            assert gateway.killed, f"nobody killed the gateway of {call}"

    async def _talk(self, call: Call, gateway: Gateway) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.server.port)
        answer = asyncio.ensure_future(self._read(call, reader))
        try:
            body = call.body
            head = (
                "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n"
                f"authorization: Bearer {call.client.secret}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            if call.behaviour == LEAVE:
                await _first(answer, call.arrived.wait())
                call.left = 0 if answer.done() else time.time_ns()
            if not call.left:
                await answer
        finally:
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)
            writer.transport.abort()

    async def _read(self, call: Call, reader: asyncio.StreamReader) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        call.status = int(head.split(" ", 2)[1])
        if call.status == 200 and call.stream:
            await self._read_stream(call, reader)
            return
        body = await reader.readexactly(int(_header(head, "content-length")))
        call.whole = call.status == 200
        if not call.whole:
            call.code = json.loads(body)["error"]["code"]
            call.retry_after = float(_header(head, "retry-after") or 0)

    async def _read_stream(self, call: Call, reader: asyncio.StreamReader) -> None:
        async for line in reader:
            if line.startswith(b"data: [DONE]"):
                call.whole = not call.code
            elif line.startswith(b'data: {"error"'):
                call.code = json.loads(line[6:])["error"]["code"]
            elif b'"content":' in line:
                call.seen += 1
                if call.behaviour == STALL and call.seen == call.part:
                    call.left = time.time_ns()
                    return


def _header(head: str, name: str) -> str:
    return head.partition(f"\r\n{name}: ")[2].partition("\r\n")[0]


async def _first(one: asyncio.Task[None], other: Coroutine[object, object, object]) -> None:
    """Wait until one of them is done, and cancel the other one if it is not."""
    two = asyncio.ensure_future(other)
    await asyncio.wait([one, two], return_when=asyncio.FIRST_COMPLETED)
    two.cancel()
