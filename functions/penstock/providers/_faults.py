"""What an upstream's bad answer means: its status, headers and error body, as one of our errors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from penstock.core.json import parse
from penstock.errors import (
    InvalidRequest,
    UpstreamBusy,
    UpstreamError,
    UpstreamLacks,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from penstock.outbound.retry_after import retry_after
from penstock.providers._profiles import Profile
from penstock.schema.model import Deployment
from penstock.schema.secret import Secret

_KEY = re.compile(r"\b(?:sk|pk|rk|xai|gsk|hf|psk)[-_][A-Za-z0-9*_-]{6,}|\bBearer\s+\S+|\bA[KS]IA[A-Z0-9]{12,}")
_PATH = re.compile(
    r"(?<![\w/.])(?:/[\w.@+-]+){2,}/?|\b[A-Za-z]:\\[^\s\"']+|\b\w+\.py\b(?:\", line \d+)?|\barn:aws[\w-]*:[^\s\"']+"
)
_TRACE = re.compile(r'Traceback \(most recent call last\)|\n[ \t]*File "')
_OVERFLOW = re.compile(
    r"context[ _]length|maximum context|context window|context limit|context size|too many tokens|longer than the model"
    r"|longer than the maximum model|prompt is too long|input is too long|maximum prompt length"
    r"|maximum number of tokens allowed",
    re.I,
)
_BROKE = re.compile(r"credit balance|insufficient balance|insufficient_quota|billing_hard_limit", re.I)
_OURS = frozenset({407, 410, 421, 424, 426})
"""Statuses that blame where or how we asked, and not what the caller wants: a proxy's, what failed behind it."""
_STATUSES: dict[Any, int] = {
    "invalid_request_error": 400,
    "insufficient_quota": 429,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "overloaded_error": 529,
}
"""What the words for an error would be as a status, which a 200 that has begun cannot have any more."""
BUSY = 1.0
"""Seconds after which to come again where a busy upstream does not say it, as SGLang does not."""
CONTEXT_LENGTH = "context_length_exceeded"


def clean(message: str, credential: Secret | None = None, limit: int = 1000) -> str:
    """An upstream's message without file paths, keys (``credential`` is ours) and tracebacks."""
    if credential:
        message = message.replace(credential.reveal(), "[key]")
    if len(message) > 8 * limit:
        message = (message[: 8 * limit].rsplit(maxsplit=1) or [""])[0]
    message = _TRACE.split(message, maxsplit=1)[0].rstrip() or "internal error"
    message = _PATH.sub("[path]", _KEY.sub("[key]", message))
    return message if len(message) <= limit else message[:limit] + "…"


def fault(
    status: int, headers: Mapping[str, str], body: bytes, deployment: Deployment, profile: Profile
) -> UpstreamError:
    """The error that an answer with this status stands for."""
    try:
        document = parse(body)
    except ValueError:
        document = None
    detail = _detail(document)
    return _fault(status, detail, deployment, profile, retry_after(headers))


def frame_fault(document: Any, deployment: Deployment, profile: Profile) -> UpstreamError | None:
    """The error inside a 200: an error object in place of an answer, or an error frame of a stream."""
    if not isinstance(document, dict):
        return None
    if document.get("error") is None and document.get("object") != "error":
        return None
    detail = _detail(document)
    status = next((detail[name] for name in ("status_code", "code", "status") if _is_status(detail.get(name))), None)
    if status is None:
        status = next((_STATUSES[word] for word in (detail.get("code"), detail.get("type")) if word in _STATUSES), 502)
    return _fault(status, detail, deployment, profile, None)


def _is_status(value: object) -> bool:
    return isinstance(value, int) and 400 <= value <= 599


def _detail(document: Any) -> dict[str, Any]:
    """The error's own fields, from OpenAI's nested form, SGLang's flat one, FastAPI's, or a bare string."""
    if not isinstance(document, dict):
        return {}
    inner = document.get("error")
    if isinstance(inner, dict):
        return inner
    if isinstance(inner, str):
        return {**document, "message": inner}
    if "message" not in document and isinstance(document.get("detail"), str):
        return {"message": document["detail"]}
    return document


def _fault(
    status: int, detail: dict[str, Any], deployment: Deployment, profile: Profile, after: float | None
) -> UpstreamError:
    provider = deployment.provider
    raw = detail.get("message") or detail.get("Message")
    message = clean(raw, deployment.credential) if isinstance(raw, str) and raw else f"status {status}"
    said = f"{provider}: {message}"
    words = f"{message} {detail.get('type')} {detail.get('code')}"
    if status == 402 or (status in (400, 429) and _BROKE.search(words)):
        return UpstreamUnavailable(f"{provider} has no credit left for our key", provider=provider)
    if status in profile.busy or (status == 503 and after is not None):
        return UpstreamBusy(said, provider=provider, retry_after=BUSY if after is None else after)
    if status in (408, 504):
        return UpstreamTimeout(said, provider=provider, retry_after=after)
    if status in (401, 403):
        return UpstreamUnavailable(f"{provider} does not accept our credential", provider=provider)
    if status in (404, 405):
        return UpstreamLacks(said, provider=provider, retry_after=after)
    if status >= 500 or status in _OURS or status < 400:
        return UpstreamUnavailable(said, provider=provider, retry_after=after)
    code, param = detail.get("code"), detail.get("param")
    if _OVERFLOW.search(message):
        code, param = CONTEXT_LENGTH, param or "messages"
    return UpstreamRefused(
        message,
        status=status,
        upstream_code=code if isinstance(code, str) else InvalidRequest.code,
        provider=provider,
        param=param if isinstance(param, str) else None,
    )
