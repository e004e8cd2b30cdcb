"""The audit trail: who did what to the gateway."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Act:
    """One administrative act. ``at`` is in seconds since the epoch; ``detail`` never holds a secret."""

    id: str
    at: float
    actor: str
    action: str
    target: str
    detail: str = ""
