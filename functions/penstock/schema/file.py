"""Documents that callers keep here: what batches read, and what they write."""

from __future__ import annotations

from dataclasses import dataclass

FOLDER = "files"
BATCH, BATCH_OUTPUT = "batch", "batch_output"
PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
"""What callers may keep a file for. Batches alone make something of it."""
SHORTEST, LONGEST = 3600, 30 * 86_400
"""Seconds for which callers may have a file kept."""


@dataclass(frozen=True, slots=True)
class File:
    """A document of a key's. ``size`` is in bytes, times are seconds since the epoch.

    Its bytes are those of so many objects in ``parts``, one after the other. While it is being written it has none, and
    nobody sees it; nor does anybody once it has expired: then it is swept away, objects first.
    """

    id: str
    key_id: str
    purpose: str
    filename: str
    created_at: float
    expires_at: float
    size: int = 0
    parts: int = 0

    def seen(self, now: float) -> bool:
        """Whether its key may see it."""
        return self.parts > 0 and self.expires_at > now


def folder_of(file_id: str) -> str:
    """Where the objects of a file are."""
    return f"{FOLDER}/{file_id}"


def part_of(file_id: str, number: int) -> str:
    """The name of one object of a file."""
    return f"{folder_of(file_id)}/{number:06d}"
