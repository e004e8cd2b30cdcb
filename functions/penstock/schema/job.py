"""Asynchronous work: accepted once, run under a lease, ended once."""

from __future__ import annotations

from dataclasses import dataclass

QUEUED = "queued"
PROCESSING = "processing"
COMPLETED = "completed"
FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Job:
    """One call to make later. ``body`` and ``result`` are JSON documents as bytes; times are seconds since the epoch.

    ``lease_until`` and ``runner`` say who runs it now; a lease that has run out may be taken over.
    """

    id: str
    key_id: str
    endpoint: str
    body: bytes
    created_at: float
    status: str = QUEUED
    runner: str = ""
    lease_until: float = 0.0
    attempts: int = 0
    result: bytes = b""
    error: str = ""
    finished_at: float | None = None
