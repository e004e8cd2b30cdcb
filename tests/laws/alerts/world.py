"""A world in which processes watch the gateway's numbers and tell of them, die, and are followed by others."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from penstock import plugs
from penstock.core.alerts import rulebook, teller, watchman
from penstock.core.alerts.judging import waits
from penstock.core.ports import Store
from penstock.errors import UpstreamUnavailable
from penstock.schema.alert import Message, Rule, Watch
from tests.laws.jobs.mortal import Died, Life, Mortal
from tests.laws.stores.moto_in_process import InProcess

RULE = Rule("failing", "summary.error_rate", ">", 0.5, cooldown_minutes=0.0, channels=("mail", "chat"))


class Clock:
    """Stands in for the module ``time``: it goes on by itself, and further when a test says so."""

    ahead = 0.0

    def time(self) -> float:
        """Seconds since the epoch."""
        return time.time() + self.ahead

    def monotonic(self) -> float:
        """Seconds."""
        return time.monotonic() + self.ahead


class Receiver:
    """A channel that notes what it is told, unless the process dies before it has told it, or knows that it has."""

    def __init__(self, world: World, name: str, life: Life) -> None:
        self._world = world
        self._name = name
        self._life = life

    async def tell(self, message: Message, *, timeout: float) -> None:
        """Take one message."""
        self._life.step()
        if self._name in self._world.broken:
            self._world.refused += 1
            raise UpstreamUnavailable("it is broken")
        self._world.told.append((self._name, message.event, message.id))
        self._life.step()

    async def aclose(self) -> None:
        """Nothing."""


class World:
    """State that outlives processes, the numbers that they see, and what was told."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.numbers: dict[str, float] = {}
        self.told: list[tuple[str, str, str]] = []
        self.broken: set[str] = set()
        self.refused = 0

    async def read(self, window: float) -> Mapping[str, float]:
        """The numbers as they are now."""
        return dict(self.numbers)

    def process(self, life: Life | None = None, *, take: Any = None) -> watchman.Watchman:
        """A process that watches and tells, and may die."""
        life = life or Life()
        store: Any = Mortal(self.store, life, lambda *_: None)
        telling = teller.Teller(store, lambda name: Receiver(self, name, life), timeout=5.0)
        return watchman.Watchman(store, telling, self.read, take or always, {}, interval=30.0)

    async def live(self, ends: int | None = None) -> Life:
        """Let a process live until nothing is left to be told, or it dies; all that it held is free again then."""
        life = Life(ends)
        process = self.process(life)
        try:
            for _ in range(3):
                await process.run()
        except Died:
            pass
        self.clock.ahead += 60.0
        return life

    async def watch(self) -> Watch:
        """What is kept of the rule."""
        found = await self.store.find_watch(RULE.name)
        assert found is not None
        return found

    async def waits(self) -> bool:
        """Whether something is still to be told."""
        return waits(await self.watch())


async def always(duty: str, seconds: float) -> bool:
    """Everybody thinks that the duty is theirs."""
    return True


async def make(backend: str, folder: Path, patch: pytest.MonkeyPatch) -> World:
    """A new world with one rule."""
    name = uuid.uuid4().hex[:12]
    if backend == "sqlite":
        store: Store = plugs.load("stores", "sqlite").connect(f"sqlite:///{folder}/{name}.db", None)
    else:
        url = f"dynamodb://laws-{name}?endpoint=http://dynamodb.eu-west-1.amazonaws.com"
        store = plugs.load("stores", "dynamodb").connect(url, InProcess())
    await store.open()
    await store.replace_watch(Watch(RULE.name, 1, RULE))
    clock = Clock()
    for module in (rulebook, teller, watchman):
        patch.setattr(module, "time", clock)
    patch.setattr(teller, "PAUSES", (10.0, 10.0))
    return World(store, clock)
