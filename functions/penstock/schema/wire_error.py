"""The form of an error on OpenAI's wire: in answers, in streams, in the lines of a batch."""

from __future__ import annotations

import time
from typing import Any

from penstock.errors import NoDeploymentAvailable, PenstockError, UpstreamRefused


def error_document(error: PenstockError) -> dict[str, Any]:
    """The body that official OpenAI SDKs map to their own classes, ``detail`` and ``timestamp`` for older clients."""
    code = (error.upstream_code or error.code) if isinstance(error, UpstreamRefused) else error.code
    message = error.public or error.message
    inner: dict[str, Any] = {"message": message, "type": error.type, "param": error.param, "code": code}
    if error.retry_after is not None:
        inner["retry_after"] = error.retry_after
    if isinstance(error, NoDeploymentAvailable) and error.attempts:
        inner["attempts"] = list(error.attempts)
    return {"error": inner, "detail": error.summary or message, "timestamp": time.time()}
