"""A request on its way through the house, after its dialect has read it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from penstock.schema.key import Caller

CHAT = "chat/completions"
COMPLETIONS = "completions"
EMBEDDINGS = "embeddings"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One deployment tried, and how it failed; ``seconds`` it took."""

    deployment: str
    code: str
    message: str
    seconds: float


@dataclass(slots=True)
class Request:
    """A validated request. ``body`` is OpenAI's wire, unknown fields included; ``deadline`` is on the loop's clock.

    ``deployment``, ``attempts`` and ``dropped`` are filled on the way: who answers, who failed, which fields
    the answering engine does not know.
    """

    id: str
    endpoint: str
    model: str
    body: dict[str, Any]
    stream: bool
    caller: Caller
    deadline: float
    deployment: str = ""
    attempts: list[Attempt] = field(default_factory=list)
    dropped: tuple[str, ...] = ()

    @property
    def wants_usage(self) -> bool:
        """Whether the caller asked for the usage of a stream."""
        options = self.body.get("stream_options")
        return isinstance(options, dict) and options.get("include_usage") is True
