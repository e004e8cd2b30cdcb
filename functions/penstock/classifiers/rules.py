"""Scores a prompt by what anybody can see in it: how long it is, what it asks for, code, numbers, tools, images.

Each feature adds points or takes some away, and is told with them. What nothing is known of counts as rather hard:
sending a hard prompt to a small model is the worse mistake.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from penstock.classifiers._features import WEIGHTS, measured
from penstock.core.classification.subjects import one_of
from penstock.core.ports.classifier import Asking, Prompt, Verdict
from penstock.schema.classification_section import AliasSection, RuleSection
from penstock.schema.decision import Reason

EXCERPT = 3_000
"""Characters of a prompt's beginning, and of its end, that an operator's words are looked for in."""


def connect(alias: AliasSection) -> Rules:
    """The classifier of an alias. Raises ``ValueError``."""
    unknown = set(alias.rules.weights) - set(WEIGHTS)
    if unknown:
        raise ValueError(f"rules: has no features {sorted(unknown)}; there are {', '.join(WEIGHTS)}")
    return Rules(tuple(alias.tiers), alias.rules)


class Rules:
    """Scores a prompt, and asks nobody."""

    asks = False

    def __init__(self, tiers: tuple[str, ...], section: RuleSection) -> None:
        count = len(tiers)
        thresholds = section.thresholds or [number / count for number in range(1, count)]
        self._tiers = list(zip(tiers, [*thresholds, float("inf")], strict=True))
        self._weights = WEIGHTS | section.weights
        self._own = [
            (word, re.compile(one_of([word]), re.IGNORECASE), points) for word, points in section.keywords.items()
        ]
        self._own += [(pattern, re.compile(pattern), points) for pattern, points in section.patterns.items()]

    async def tier(self, prompt: Prompt, asking: Asking) -> Verdict:
        """The tier of a prompt, by its score."""
        return self.judged(prompt)

    def judged(self, prompt: Prompt) -> Verdict:
        """The same, for who has no loop."""
        reasons = [*self._seen(prompt)]
        score = min(max(sum(reason.points for reason in reasons), 0.0), 1.0)
        tier = next(tier for tier, threshold in self._tiers if score < threshold)
        return Verdict(tier, score, tuple(sorted(reasons, key=lambda reason: -abs(reason.points))))

    def _seen(self, prompt: Prompt) -> Iterator[Reason]:
        for feature, amount in measured(prompt).items():
            if points := amount * self._weights[feature]:
                yield Reason(feature, points)
        if self._own:
            asked = prompt.asked
            text = asked if len(asked) <= 2 * EXCERPT else f"{asked[:EXCERPT]}\n{asked[-EXCERPT:]}"
            for name, pattern, points in self._own:
                if pattern.search(text):
                    yield Reason(name, points)
