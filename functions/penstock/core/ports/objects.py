"""What the core asks of a place for large documents."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Protocol

NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
"""What an object may be called: no part of a name begins with a dot."""


class Objects(Protocol):
    """Documents of any size under names such as ``files/file-1/0``, written and read in pieces.

    An object is seen whole or not at all, and as soon as ``put`` returns. Putting another one in its place is as well.
    Memory is bounded whatever the size. Every operation raises ``StateError`` when the place cannot answer, and
    ``ValueError`` for a name that none may have.
    """

    async def open(self) -> None:
        """Make ready: create what is missing."""
        ...

    async def close(self) -> None:
        """Release files and connections; idempotent."""
        ...

    async def put(self, name: str, pieces: AsyncIterable[bytes]) -> int:
        """Keep an object; answers its bytes. Where ``pieces`` raises, nothing is kept and what was there stays."""
        ...

    def get(self, name: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """An object's bytes from ``start`` to before ``end``, in pieces. Raises ``NotFound`` if there is none."""
        ...

    async def size(self, name: str) -> int | None:
        """An object's bytes; ``None`` if there is none."""
        ...

    async def delete(self, name: str) -> None:
        """Forget an object; one that is not there is no error."""
        ...

    async def clear(self, folder: str) -> None:
        """Forget every object whose name begins with ``folder`` and a slash."""
        ...

    async def sweep(self, folder: str, before: float) -> int:
        """Forget what was kept in a folder before a time, and writes that were given up by then.

        Answers how many (0 where the place's own rules do it).
        """
        ...


async def whole(pieces: AsyncIterable[bytes]) -> bytes:
    """All the pieces at once: for what is known to be small enough."""
    return b"".join([piece async for piece in pieces])


async def one(document: bytes) -> AsyncGenerator[bytes, None]:
    """A document that is at hand, as the only piece."""
    yield document
