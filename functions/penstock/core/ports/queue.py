"""What the core asks of a queue."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Message(NamedTuple):
    """The word that a job waits. ``receipt`` is of this delivery alone; ``receives`` counts all of them."""

    job_id: str
    receipt: str
    receives: int = 1


class Queue(Protocol):
    """Tells runners which job to run. What it holds are hints: the store knows the truth, and says a lost one again.

    A message is delivered at least once, to one receiver at a time, until it is ``done``. Times in seconds. Every
    operation raises ``StateError`` when the queue cannot answer.
    """

    async def open(self) -> None:
        """Make ready: create what is missing."""
        ...

    async def close(self) -> None:
        """Release files and connections; idempotent."""
        ...

    async def send(self, job_id: str, *, priority: int = 0, delay: float = 0.0) -> None:
        """Have a job's message delivered after ``delay``; higher priorities first, where the queue knows them."""
        ...

    async def receive(self, *, most: int, lease: float, wait: float = 0.0) -> list[Message]:
        """Up to ``most`` messages, waiting for the first up to ``wait``; nobody else gets them for ``lease``."""
        ...

    async def release(self, message: Message, delay: float = 0.0) -> None:
        """Give a message back, to be delivered again after ``delay``; a receipt whose lease is over is no error."""
        ...

    async def done(self, message: Message) -> None:
        """Deliver a message no more; a receipt whose lease is over is no error."""
        ...
