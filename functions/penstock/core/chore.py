"""What a process that lives long does every few seconds, and a function when the clock tells it to."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod

from penstock.errors import StateError

log = logging.getLogger("penstock.chores")


class Chore(ABC):
    """Takes its ``turn`` every so many seconds once it is started; a store that is away only puts it off."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._next = 0.0
        self._task: asyncio.Task[None] | None = None

    @abstractmethod
    async def turn(self) -> object:
        """Do what is to be done now. Raises ``StateError``."""

    def start(self, before: Chore | None = None) -> None:
        """Take a turn every so many seconds from now on; the first when that of the one before this would come."""
        now = asyncio.get_running_loop().time()
        self._next = now + self._every if before is None else min(before._next, now + self._every)
        self._task = asyncio.ensure_future(self._watch())

    async def close(self) -> None:
        """Take no more turns, and let go of what they need; idempotent."""
        await self.stop()

    async def stop(self) -> None:
        """Take no more turns; idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._next - loop.time())
            self._next = loop.time() + self._every
            try:
                await self.turn()
            except StateError as error:
                log.warning("the %s is put off: %s", type(self).__name__.lower(), error)
