"""A hundred providers that fail and recover at random, a healthy one behind them, and all who ask meanwhile."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.server import KEY, PATIENCE, Server
from tests.wire.outage.answers import WAYS, Way, answer, answer_well
from tests.wire.outage.callers import Ask, Told, bare, official
from tests.wire.outage.every import FAULTS
from tests.wire.outage.faults import Faulty, Mortal, open_at
from tests.wire.upstream import serve

KINDS = ("openai", "vllm")
SOON = 0.3
RECOVERY = 1.0
BEFORE, UNTIL = 0.1, 0.85
"""The parts of all calls at which the outage begins and ends."""
FLIP = 0.1
"""How likely a provider fails, or recovers, when a call to it begins during the outage."""


@dataclass(slots=True)
class Row:
    """One line of the table: what became of the calls to a provider with one fault."""

    calls: int = 0
    met: int = 0
    moved_on: int = 0
    cut: int = 0
    lost: int = 0
    slowest: float = 0.0


class Outage:
    """All of it; ``lost`` are the answers that were not right, with what their callers were told instead."""

    def __init__(self, folder: Path, dice: random.Random) -> None:
        self._folder = folder
        self._dice = dice
        self.providers: dict[str, Faulty] = {}
        self.rows: dict[str, Row] = {}
        self.lost: list[tuple[str, Way, Told]] = []
        self._broken = False
        self.server: Server

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Outage]:
        """Start the providers, none of which fails yet but those that are nowhere, and a gateway before them."""
        async with AsyncExitStack() as stack:
            for name, fault in FAULTS.items():
                self.providers[slug(name)] = await stack.enter_async_context(open_at(fault))
            mortal = self.providers["process-that-dies"] = Mortal()
            stack.push_async_callback(mortal.turn, broken=True)
            for provider in self.providers.values():
                await provider.turn(broken=provider.fault.address is not None)
            self.rows = {name: Row() for name in self.providers}
            healthy = await stack.enter_async_context(serve(answer_well))
            config = json.dumps(self._configuration(healthy.url))
            self.server = await asyncio.to_thread(Server(self._folder, config).__enter__)
            stack.callback(self.server.__exit__)
            yield self

    def _configuration(self, healthy: str) -> dict[str, Any]:
        rows: list[dict[str, Any]] = []
        for number, (name, provider) in enumerate(self.providers.items()):
            seconds = SOON if provider.fault.late else 20.0
            first = {"base_url": provider.url, "timeout": seconds, "connect_timeout": seconds}
            rows.append({"name": f"faulty-{number}", "type": KINDS[number % 2], "models": [_model(name)], **first})
        models = [_model(name) for name in self.providers]
        rows.append({"name": "healthy", "type": "openai", "base_url": healthy, "priority": 2, "models": models})
        return {
            "auth": {"api_keys": [KEY]},
            "limits": {"enabled": False},
            "logging": {"level": "WARNING"},
            "request": {"timeout": 60, "proxy_info": False},
            "circuit_breaker": {"failure_threshold": 3, "recovery_timeout": RECOVERY},
            "providers": rows,
        }

    async def run(self, calls: int, people: int) -> None:
        """So many people make so many calls; the outage begins, goes on, and ends meanwhile."""
        numbers = iter(range(calls))
        async with AsyncExitStack() as stack:
            asks = [
                await stack.enter_async_context((bare, official)[turn % 2](self.server.url)) for turn in range(people)
            ]
            async with asyncio.TaskGroup() as group:
                for ask in asks:
                    group.create_task(self._live(ask, numbers, calls))

    async def _live(self, ask: Ask, numbers: Iterator[int], calls: int) -> None:
        for number in numbers:
            name = self._dice.choice(list(self.providers))
            way = WAYS[self._dice.choice(list(WAYS))]
            await self._direct(self.providers[name], number / calls)
            began = time.monotonic()
            async with asyncio.timeout(PATIENCE):
                told = await ask(way, name, number)
            self._note(name, way, number, told, time.monotonic() - began)

    async def _direct(self, provider: Faulty, moment: float) -> None:
        """Have all providers fail where the outage begins, none where it ends, and in between this one by chance."""
        broken = BEFORE <= moment < UNTIL
        if broken != self._broken:
            self._broken = broken
            for each in self.providers.values():
                await self._turn(each, broken)
        elif broken and self._dice.random() < FLIP:
            await self._turn(provider, not provider.broken)

    async def _turn(self, provider: Faulty, broken: bool) -> None:
        if provider.fault.address is None:
            await provider.turn(broken=broken)

    def _note(self, name: str, way: Way, number: int, told: Told, seconds: float) -> None:
        provider, row = self.providers[name], self.rows[name]
        row.calls += 1
        row.met += bool(provider.fault.code and provider.hits[number])
        row.moved_on += told.attempts > 1
        row.slowest = max(row.slowest, seconds)
        if told.right(number, way):
            return
        honest = told.begun and bool(told.code) and answer(number).startswith(told.text)
        if honest and way.stream and (provider.fault.after or provider.fault.late):
            row.cut += 1
        else:
            row.lost += 1
            self.lost.append((name, way, told))

    async def recovered(self) -> None:
        """Wait until every provider that is there again is used again."""
        left = {name for name, provider in self.providers.items() if provider.fault.address is None}
        async with bare(self.server.url) as ask, asyncio.timeout(PATIENCE):
            while left:
                for name in sorted(left):
                    told = await ask(WAYS["chat"], name, 7)
                    assert told.right(7, WAYS["chat"]), told
                    if told.headers["x-penstock-deployment"].startswith("faulty-"):
                        left.discard(name)
                await asyncio.sleep(RECOVERY / 10)

    def total(self) -> Counter[str]:
        """All rows added up."""
        sums: Counter[str] = Counter()
        for row in self.rows.values():
            for column in ("calls", "met", "moved_on", "cut", "lost"):
                sums[column] += getattr(row, column)
        return sums

    def table(self) -> str:
        """What became of all calls, by fault."""
        rows = {**self.rows, "all": Row(**self.total(), slowest=max(row.slowest for row in self.rows.values()))}
        head = f"{'fault':58}{'calls':>7}{'met':>7}{'moved on':>10}{'cut':>6}{'lost':>6}{'slowest':>9}"
        lines = [
            f"{name:58}{row.calls:7}{row.met:7}{row.moved_on:10}{row.cut:6}{row.lost:6}{row.slowest:8.2f}s"
            for name, row in rows.items()
        ]
        return "\n".join([head, *lines])


def slug(name: str) -> str:
    """A fault's name as the public name of a model."""
    return name.replace(" ", "-")


def _model(name: str) -> dict[str, str]:
    return {"name": name, "upstream": "engine-1"}
