"""An answer in the pieces that a test wants, without a socket that might join them."""

from __future__ import annotations

from typing import Any


class Pieces:
    """A client, and the answer it gets: bytes in these pieces, and then their end."""

    status = 200

    def __init__(self, *pieces: bytes, kind: str = "text/event-stream; charset=utf-8") -> None:
        self._pieces = [piece for piece in pieces if piece]
        self.headers = {"content-type": kind}

    async def send(self, *_: Any, **__: Any) -> Pieces:
        return self

    async def chunk(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    async def read(self, limit: int = 0) -> bytes:
        whole, self._pieces = b"".join(self._pieces), []
        return whole

    def close(self) -> None:
        pass
