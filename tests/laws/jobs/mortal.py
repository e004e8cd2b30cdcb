"""A store and a queue as one process sees them that dies: at its n-th call, before it took effect or right after."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, cast

READS = (
    "find_job",
    "due_jobs",
    "parked_jobs",
    "read_chunks",
    "find_key",
    "read_key",
    "read_meter",
    "find_file",
    "find_batch",
    "load_registry",
    "list_notices",
    "list_workers",
    "load_webhooks",
    "find_delivery",
    "count_waiting",
    "due_deliveries",
    "list_watches",
    "find_watch",
)
"""What changes nothing: to die before or after it is to die after the call before it."""


class Died(asyncio.CancelledError):
    """The process is dead: nothing that it still does has an effect."""


class Life:
    """Counts what a process writes. At the point ``ends`` it dies: before a call takes effect, or right after."""

    def __init__(self, ends: int | None = None) -> None:
        self.ends = ends
        self.points = 0
        self.calls: list[str] = []
        self.dead = False

    def step(self) -> None:
        """Pass a point, or die at it."""
        if self.dead or self.points == self.ends:
            self.dead = True
            raise Died
        self.points += 1


class Mortal:
    """``inner``, whose operations are points in a life; ``seen`` is told what each call has answered."""

    def __init__(self, inner: Any, life: Life, seen: Callable[[str, Any], None]) -> None:
        self._inner = inner
        self._life = life
        self._seen = seen

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        member = getattr(self._inner, name)
        if inspect.isasyncgenfunction(member):
            return cast(Callable[..., Awaitable[Any]], member)  # it reads

        async def call(*args: Any, **kwargs: Any) -> Any:
            if name in READS or self._life.dead:
                if self._life.dead:
                    raise Died
                return await member(*args, **kwargs)
            self._life.step()
            self._life.calls.append(name)
            answer = await member(*args, **kwargs)
            self._seen(name, answer)
            self._life.step()
            return answer

        return call
