"""What went through the gateway in a span of time, summed up by who was tried."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Stretch:
    """Attempts at one provider's model: how many, of those ``failed``, or were ``refused`` because the request itself
    is wrong; ``seconds`` they took together.

    ``first_tokens`` of them told when their first token came, after ``first_seconds`` together. ``cost`` is in dollars.
    """

    provider: str
    model: str
    requests: int = 0
    failed: int = 0
    refused: int = 0
    seconds: float = 0.0
    first_tokens: int = 0
    first_seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """The outcomes that started at or after ``since`` and before ``until``, seconds since the epoch: how many
    ``requests``, how many of those ``failed``, their ``seconds``, and the attempts that they took.
    """

    since: float
    until: float
    requests: int
    failed: int
    seconds: float
    stretches: tuple[Stretch, ...] = ()
