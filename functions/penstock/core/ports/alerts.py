"""What the core asks of a store to keep alerts, and of a channel to tell them."""

from __future__ import annotations

from typing import Protocol

from penstock.schema.alert import Message, Watch


class AlertStore(Protocol):
    """The part of a ``Store`` that keeps rules and their alerts; the same rules hold."""

    async def list_watches(self) -> list[Watch]:
        """Every watch, by name."""
        ...

    async def find_watch(self, name: str) -> Watch | None:
        """What is kept under a rule's name, or ``None``."""
        ...

    async def replace_watch(self, watch: Watch) -> None:
        """Write a watch's next revision; ``StateConflict`` unless the one before it is the present one."""
        ...

    async def remove_watch(self, watch: Watch) -> bool:
        """Forget a watch; ``False`` if it is not of this revision any more."""
        ...


class Channel(Protocol):
    """Tells people, or other machines, of alerts."""

    async def tell(self, message: Message, *, timeout: float) -> None:
        """Tell of one event, within ``timeout`` seconds. Raises ``UpstreamError``; then it is told again later."""
        ...

    async def aclose(self) -> None:
        """Let go of every connection."""
        ...
