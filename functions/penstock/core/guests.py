"""How many requests and jobs a house serves: one that has a successor is let go of when the last of them has left."""

from __future__ import annotations

import asyncio


class Guests:
    """A count of those who are inside; ``with`` lets one in, and out again."""

    __slots__ = ("_left", "inside")

    def __init__(self) -> None:
        self.inside = 0
        self._left: asyncio.Event | None = None

    def __enter__(self) -> None:
        self.inside += 1

    def __exit__(self, *_: object) -> None:
        self.inside -= 1
        if self._left is not None and not self.inside:
            self._left.set()

    async def gone(self) -> None:
        """Wait until nobody is inside."""
        while self.inside:
            self._left = asyncio.Event()
            await self._left.wait()
