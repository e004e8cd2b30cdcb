"""Configurations as the state keeps them: numbered documents, and what all processes are told to follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

LARGEST = 256 * 1024
"""Bytes of a document at most: DynamoDB takes items of 400 KB."""


@dataclass(frozen=True, slots=True)
class ConfigVersion:
    """One document under its number. ``sha256`` is of the text as it was read, ``text`` has no secrets in it.

    ``origin`` is the file or command that it came from first, ``actor`` who brought it; ``loaded_at`` is when it was
    last put in force anew.
    """

    number: int
    sha256: str
    text: str
    origin: str
    actor: str
    created_at: float
    loaded_at: float


@dataclass(frozen=True, slots=True)
class Steering:
    """What all processes of a state are told: the version that was ``pushed`` (0: none), by number the versions that
    were rolled back and what runs ``instead``, and how often everybody was told to load its file anew.
    """

    revision: int = 0
    pushed: int = 0
    instead: Mapping[int, int] = field(default_factory=dict)
    reloads: int = 0
