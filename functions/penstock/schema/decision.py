"""What was decided of a request that named an alias instead of a model, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


class Reason(NamedTuple):
    """A feature of a prompt, and how many points it added to the score; never a word of the prompt itself."""

    feature: str
    points: float


@dataclass(frozen=True, slots=True)
class Decision:
    """The model that stands for an ``alias`` in one request.

    ``score`` runs from 0, easy, to 1, hard. A ``local`` request goes to local places and to no others; ``sensitive``
    names what kinds of things call for that. ``failed`` is why the classifier could not tell, where its default was
    taken.
    """

    alias: str
    classifier: str
    tier: str
    model: str
    local: bool = False
    score: float | None = None
    reasons: tuple[Reason, ...] = ()
    sensitive: tuple[str, ...] = ()
    seconds: float = 0.0
    failed: str = ""

    def told(self) -> dict[str, Any]:
        """What callers are told of it."""
        told: dict[str, Any] = {
            "alias": self.alias,
            "model": self.model,
            "tier": self.tier,
            "classifier": self.classifier,
            "score": None if self.score is None else round(self.score, 3),
            "reasons": [{"feature": each.feature, "points": round(each.points, 3)} for each in self.reasons],
            "local": self.local,
            "sensitive": list(self.sensitive),
            "seconds": round(self.seconds, 6),
        }
        return told | {"failed": self.failed} if self.failed else told
