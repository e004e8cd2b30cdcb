"""The lines of a batch's output and error files: OpenAI's form, and the same bytes whoever writes them."""

from __future__ import annotations

from penstock.core.jobs import failure
from penstock.core.json import to_json
from penstock.errors import JobCancelled
from penstock.schema.batch import PREFIX
from penstock.schema.job import FAILED, Job
from penstock.schema.wire_error import error_document

CANCELLED, EXPIRED = "batch_cancelled", "batch_expired"
WORDS = {
    CANCELLED: "This request was not executed, because the batch was cancelled.",
    EXPIRED: "This request could not be executed before the completion window expired.",
    "answer_lost": "The answer to this request is gone: it was not collected in time.",
    JobCancelled.code: "This request was cancelled.",
}


def answered(line_id: str, custom_id: str, job: Job, answer: bytes) -> bytes:
    """The line of a request that was answered; ``answer`` is one JSON document."""
    body = answer.replace(b"\n", b" ").replace(b"\r", b" ")  # they stand between its tokens
    return _line(line_id, custom_id, b"%s,%s" % (_response(200, job, body), b'"error":null'))


def refused(line_id: str, custom_id: str, job: Job) -> bytes:
    """The line of a request that failed, with the error that whoever sent it alone would have been told."""
    error = failure.read(job.error)
    body = to_json({"error": error_document(error)["error"]})
    return _line(line_id, custom_id, b"%s,%s" % (_response(error.status, job, body), b'"error":null'))


def dropped(line_id: str, custom_id: str, code: str) -> bytes:
    """The line of a request that was never executed, and why."""
    return _line(line_id, custom_id, b'"response":null,"error":%s' % to_json({"code": code, "message": WORDS[code]}))


def failed(line_id: str, custom_id: str, job: Job | None, stopped: str) -> bytes:
    """The line of a request that has no answer, for whatever reason."""
    if job is not None and job.status == FAILED:
        return refused(line_id, custom_id, job)
    return dropped(line_id, custom_id, stopped or (JobCancelled.code if job is not None else "answer_lost"))


def _response(status: int, job: Job, body: bytes) -> bytes:
    request_id = to_json(f"{job.id}.{job.failures}")
    return b'"response":{"status_code":%d,"request_id":%s,"body":%s}' % (status, request_id, body)


def _line(line_id: str, custom_id: str, rest: bytes) -> bytes:
    known = f"batch_req_{line_id.removeprefix(PREFIX)}"
    return b'{"id":%s,"custom_id":%s,%s}\n' % (to_json(known), to_json(custom_id), rest)
