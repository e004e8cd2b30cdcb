"""Notices: what one process has found out about a place, put up for all others to read."""

from __future__ import annotations

from dataclasses import dataclass

BREAKER, HEALTH, WARMTH = "breaker", "health", "warmth"
"""What a notice is about."""
CLOSED, OPEN = "closed", "open"
UP, DOWN = "up", "down"
WARM, WARMING, COLD = "warm", "warming", "cold"


@dataclass(frozen=True, slots=True)
class Notice:
    """One word about a place: its breaker, its health or its warmth. Times are seconds since the epoch.

    ``at`` is when the state began; of two notices about the same the later one stands. After ``until`` nobody believes
    it any more.
    """

    place: str
    about: str
    state: str
    at: float
    until: float
    why: str = ""
