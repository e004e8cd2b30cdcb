"""Compares a prompt with the examples of each tier, by the vectors that a model of this gateway makes of both."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from operator import mul

from penstock.core.ports.classifier import Asking, Prompt, Verdict
from penstock.errors import ClassifierError
from penstock.schema.classification_section import AliasSection, ExampleSection
from penstock.schema.decision import Reason

EXCERPT = 2_000
"""Characters of a prompt's beginning, and of its end, that a vector is made of."""
TOGETHER = 64
"""Examples whose vectors are asked for at once."""


def connect(alias: AliasSection) -> Examples:
    """The classifier of an alias."""
    return Examples(tuple(alias.tiers), alias.examples)


class Examples:
    """Remembers the vectors of its examples once it has them. A prompt goes where the nearest ones are."""

    asks = True

    def __init__(self, tiers: tuple[str, ...], section: ExampleSection) -> None:
        self._tiers = tiers
        self._section = section
        self._known: list[tuple[str, list[float]]] = []
        self._learning = asyncio.Lock()

    async def tier(self, prompt: Prompt, asking: Asking) -> Verdict:
        """The tier that most of the nearest examples are of, each by its nearness; of equals the higher one."""
        await self._learn(asking)
        asked = prompt.asked
        text = asked if len(asked) <= 2 * EXCERPT else f"{asked[:EXCERPT]}\n{asked[-EXCERPT:]}"
        (vector,) = await asking.embed(self._section.model, [text or " "], timeout=self._section.timeout)
        unit = _unit(vector)
        if len(unit) != len(self._known[0][1]):
            raise ClassifierError(f"{self._section.model!r} answered vectors of different lengths")
        near = sorted(((sum(map(mul, unit, known)), tier) for tier, known in self._known), reverse=True)
        votes: defaultdict[str, float] = defaultdict(float)
        for nearness, tier in near[: self._section.nearest]:
            votes[tier] += max(nearness, 0.0)
        total = sum(votes.values()) or 1.0
        best = max(self._tiers, key=lambda tier: (votes[tier], self._tiers.index(tier)))
        ranks = max(len(self._tiers) - 1, 1)
        score = sum(self._tiers.index(tier) * vote for tier, vote in votes.items()) / total / ranks
        told = sorted(votes.items(), key=lambda vote: -vote[1])
        return Verdict(best, score, tuple(Reason(f"near {tier}", vote / total) for tier, vote in told))

    async def _learn(self, asking: Asking) -> None:
        """Have the vectors of the examples made, once; of those who need them at the same time one asks."""
        if self._known:
            return
        try:
            async with asyncio.timeout(self._section.timeout):
                await self._learning.acquire()
        except TimeoutError:
            raise ClassifierError(f"{self._section.model!r} has not told the examples' vectors in time") from None
        try:
            if self._known:
                return
            labelled = [(tier, text) for tier, texts in self._section.prompts.items() for text in texts]
            vectors: list[list[float]] = []
            for at in range(0, len(labelled), TOGETHER):
                texts = [text for _, text in labelled[at : at + TOGETHER]]
                vectors += await asking.embed(self._section.model, texts, timeout=self._section.timeout, house=True)
            self._known = [(tier, _unit(vector)) for (tier, _), vector in zip(labelled, vectors, strict=True)]
        finally:
            self._learning.release()


def _unit(vector: list[float]) -> list[float]:
    length = math.sqrt(sum(value * value for value in vector))
    if not length or not math.isfinite(length):
        raise ClassifierError("a vector has no length")
    return [value / length for value in vector]
