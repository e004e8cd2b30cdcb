"""Many requests in one file: each line an ordinary job, their answers in another file."""

from __future__ import annotations

from dataclasses import dataclass

VALIDATING = "validating"
FAILED = "failed"
IN_PROGRESS = "in_progress"
FINALIZING = "finalizing"
COMPLETED = "completed"
EXPIRED = "expired"
CANCELLING = "cancelling"
CANCELLED = "cancelled"
ENDED = (FAILED, COMPLETED, EXPIRED, CANCELLED)
"""The states that a batch stays in."""

PREFIX = "batch_"
ENDPOINT = "batches"
"""The endpoint of the job that drives a batch: its id is the batch's, and it is no caller's."""
LONGEST_WINDOW = 7 * 86400.0
LINE_KEPT = LONGEST_WINDOW + 86400.0
"""Seconds for which a line's answer waits for the lines before it."""

OPEN_LINE, DONE_LINE, FAILED_LINE, DROPPED_LINE = ".", "c", "f", "x"
"""What is known of a line: it is a job, it has an answer, it has none, it never became a job."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch, and how far it is. Times are seconds since the epoch; ``metadata`` and ``errors`` are JSON.

    Lines are flushed in chunks of the same length, in order. Of the input, ``flushed`` chunks have their answers in
    parts of the two files, up to byte ``chunk_offset``; the lines from there to byte ``offset`` are jobs, and ``marks``
    has a letter for each. ``stopped`` is what became of lines that will not be run: ``batch_expired`` or
    ``batch_cancelled``; those from number ``fence`` on never became jobs. Each change counts the ``revision`` up.
    """

    id: str
    key_id: str
    endpoint: str
    input_file_id: str
    completion_window: str
    created_at: float
    expires_at: float
    kept_until: float
    priority: int = 0
    metadata: str = ""
    output_seconds: int = 0
    status: str = VALIDATING
    errors: str = ""
    output_file_id: str = ""
    error_file_id: str = ""
    in_progress_at: float | None = None
    finalizing_at: float | None = None
    completed_at: float | None = None
    failed_at: float | None = None
    expired_at: float | None = None
    cancelling_at: float | None = None
    cancelled_at: float | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0
    flushed: int = 0
    chunk_offset: int = 0
    offset: int = 0
    marks: str = ""
    output_size: int = 0
    error_size: int = 0
    stopped: str = ""
    fence: int = 0
    revision: int = 1

    def line(self, number: int) -> str:
        """The id of the job that a line is."""
        return f"{self.id}-{number}"


def is_line(job_id: str) -> bool:
    """Whether a job is a line of a batch."""
    return job_id.startswith(PREFIX) and "-" in job_id
