"""The shape of a classifier, and what it may ask of the house."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from penstock.schema.decision import Reason


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a classifier is told of a request. ``texts`` are all of its strings, ``asked`` is the last turn of its
    caller, ``characters`` counts those of the conversation.
    """

    texts: tuple[str, ...]
    asked: str
    characters: int = 0
    turns: int = 1
    images: int = 0
    tools: int = 0
    structured: bool = False
    max_tokens: int | None = None


class Verdict(NamedTuple):
    """What a classifier says of a prompt: one of its tiers, and why; the score runs from 0, easy, to 1, hard."""

    tier: str
    score: float | None = None
    reasons: tuple[Reason, ...] = ()


class Asking(Protocol):
    """What a classifier may have the gateway do for it: as the caller of its prompt, and where that may go."""

    async def chat(self, model: str, body: dict[str, Any], *, timeout: float) -> str:
        """The text that a model answers. Raises ``PenstockError``."""

    async def embed(
        self, model: str, texts: Sequence[str], *, timeout: float, house: bool = False
    ) -> list[list[float]]:
        """A vector for each text. With ``house`` the texts are the configuration's own, and nobody's prompt.

        Raises ``PenstockError``.
        """


class Classifier(Protocol):
    """Tells to which tier a prompt belongs.

    A plug of ``classifiers/`` makes one: ``connect(alias: AliasSection) -> Classifier``, which raises ``ValueError``
    that begins with the name of a key if the alias does not say what it needs. What its ``tier`` raises is a
    ``PenstockError`` or a ``ValueError``. ``asks`` says whether it asks models.
    """

    asks: bool

    async def tier(self, prompt: Prompt, asking: Asking) -> Verdict:
        """The tier of one prompt."""
