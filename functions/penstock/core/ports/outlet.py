"""What posts to addresses that callers have named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Reply(NamedTuple):
    """What an address answered: its status, and the seconds of its ``Retry-After`` if it gave any."""

    status: int
    retry_after: float | None = None


class Outlet(Protocol):
    """Calls addresses that callers have named, and none that lies inside."""

    def check(self, url: str) -> None:
        """Raise ``InvalidRequest`` for an address that may not be called."""
        ...

    async def post(self, url: str, headers: Sequence[tuple[str, str]], body: bytes, *, timeout: float) -> Reply:
        """Post once, within ``timeout`` seconds. Raises ``UpstreamError``, and ``InvalidRequest`` as ``check`` does."""
        ...

    async def aclose(self) -> None:
        """Let go of every connection."""
        ...
