"""What is told of a task: its status, its text with how long it took, or why it failed."""

from __future__ import annotations

from typing import Any

from penstock.core.json import parse
from penstock.core.streams import read_usage
from penstock.dialects._jobs import result_of
from penstock.errors import PenstockError
from penstock.schema.job import CANCELLED, COMPLETED, FAILED, OPEN, PROCESSING, QUEUED, Job
from penstock.schema.outcome import Usage

WORDS = {
    QUEUED: "Task is waiting in the queue",
    PROCESSING: "Task is currently being processed",
    COMPLETED: "Task completed successfully",
    FAILED: "Task failed",
    CANCELLED: "Task failed",
}


def error_document(error: PenstockError) -> dict[str, Any]:
    """An error as these routes tell it."""
    message = error.public or error.message
    return {"error": error.summary or message, "status_code": error.status, "detail": message}


def status_of(job: Job) -> dict[str, Any]:
    """A task's status and its words."""
    status, message = job.status, WORDS[job.status]
    if job.status in (FAILED, CANCELLED):
        status, message = FAILED, f"{message}: {outcome_of(job)['error_message']}"
    return {"status": status, "task_id": job.id, "message": message}


def outcome_of(job: Job) -> dict[str, Any]:
    """What a task has come to, or its status while it is open."""
    if job.status in OPEN:
        return status_of(job)
    try:
        answer = parse(result_of(job))
    except PenstockError as error:
        told = {"error_message": error.public or error.message, "error_type": type(error).__name__}
        return {"status": "error", "task_id": job.id, **told}
    return {"status": job.status, "task_id": job.id, "result": _text(answer), "metrics": metrics_of(job, answer)}


def metrics_of(job: Job, answer: dict[str, Any]) -> dict[str, Any]:
    """Seconds that an ended task has waited and been worked on, and tokens as its answer counts them."""
    ended = job.finished_at or job.created_at
    began = job.started_at or ended
    usage = read_usage(answer.get("usage")) or Usage()
    worked = max(ended - began, 0.0)
    return {
        "queue_wait_time": round(max(began - job.created_at, 0.0), 3),
        "processing_time": round(worked, 3),
        "total_time": round(max(ended - job.created_at, 0.0), 3),
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "tokens_per_second": round(usage.completion_tokens / worked, 2) if worked else 0.0,
    }


def _text(answer: dict[str, Any]) -> Any:
    """The text of the first choice; of an answer that has none, the answer."""
    first = (answer.get("choices") or [{}])[0]
    text = (first.get("message") or {}).get("content", first.get("text"))
    return text if isinstance(text, str) else answer
