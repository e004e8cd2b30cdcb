"""Asynchronous work: accepted once, run under a lease, ended once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

QUEUED = "queued"
PROCESSING = "processing"
COMPLETED = "completed"
FAILED = "failed"
CANCELLED = "cancelled"
OPEN = (QUEUED, PROCESSING)
"""The states that a job has not ended in."""


@dataclass(frozen=True, slots=True)
class Job:
    """One call to make later. ``body`` and ``result`` are JSON documents as bytes; times are seconds since the epoch.

    ``lease_until`` and ``runner`` say who runs it now; a lease that has run out may be taken over. ``attempts`` counts
    the runners that began it, ``failures`` those that said how they failed: one that died said nothing. ``claims``
    counts every claim and is never counted down: it tells one run of a job from the next. ``started_at`` is when a
    runner first took it, anew after one that gave it back untried. ``error`` is the failure of a job that failed, as
    ``core/jobs/failure`` writes it. ``due_at`` is when somebody must be told of an open job again. ``streamed`` says
    that its tokens are kept as they come, ``digest`` is the body's SHA-256 where a repeat of its submission must be
    told from another one. One that is ``parked`` waits for its ``model``: for a worker that asks for jobs, or for
    room. With ``notify`` webhooks are to be told of its end, and it stays due until they are. An ended job has no
    ``body`` any more; what has expired is forgotten.
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
    failures: int = 0
    result: bytes = b""
    error: str = ""
    finished_at: float | None = None
    priority: int = 0
    due_at: float | None = None
    expires_at: float | None = None
    model: str = ""
    claims: int = 0
    started_at: float | None = None
    streamed: bool = False
    digest: str = ""
    parked: bool = False
    notify: bool = False


class DueJob(NamedTuple):
    """A job that somebody must be told of: an open one again, or one with ``notify`` that has ended."""

    id: str
    due_at: float
    created_at: float
    priority: int
    status: str = QUEUED
