"""The section ``chaos_engineering`` of a configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from penstock.schema.bounds import require


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with so many of the calls to ``providers``, by the ``keys`` with these ids; both are globs.

    ``delay`` takes ``duration_ms``; ``error`` answers ``error_code`` and ``error_message``. Each call is drawn anew.
    """

    type: Literal["delay", "error", "cut_stream", "malformed_frame"]
    probability: float
    severity: Literal["low", "medium", "high", "critical"] = "medium"
    duration_ms: float = 1000.0
    error_code: int = 503
    error_message: str = "Simulated provider error"
    providers: list[str] = field(default_factory=lambda: ["*"])
    keys: list[str] = field(default_factory=lambda: ["*"])

    def __post_init__(self) -> None:
        require("probability", 0 <= self.probability <= 1, "from 0 to 1")
        require("duration_ms", 0 <= self.duration_ms <= 3_600_000, "from 0 to 3600000 milliseconds")
        require("error_code", 400 <= self.error_code <= 599, "from 400 to 599")


@dataclass(frozen=True, slots=True)
class ChaosSection:
    """Faults that are put between the gateway and its providers. With a ``seed`` they come in the same order again."""

    enabled: bool = False
    seed: int | None = None
    faults: list[Fault] = field(default_factory=list)
