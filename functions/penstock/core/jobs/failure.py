"""A failure as it is kept with the job that it ended, and told again to whoever asks for the job's answer."""

from __future__ import annotations

from typing import Any

from penstock.core.json import parse, to_json
from penstock.errors import BudgetExceeded, CallerError, JobError, PenstockError, RateLimited, UpstreamRefused

KEPT = ("status", "param", "retry_after", "public", "summary", "provider", "upstream_code", "attempts")


def write(error: PenstockError) -> str:
    """The failure as JSON: its kind, its words, and what else its answer tells."""
    told: dict[str, Any] = {"kind": type(error).__name__, "message": error.message}
    told |= {name: value for name in KEPT if (value := getattr(error, name, None))}
    return to_json(told).decode()


def read(text: str) -> PenstockError:
    """The failure that was written. Of a kind that is not known any more it is a ``JobError`` with the same words."""
    try:
        told = parse(text)
        message = str(told.pop("message"))
    except (ValueError, KeyError, AttributeError, TypeError):
        return JobError(text)
    kind = _KINDS.get(str(told.pop("kind", "")), JobError)
    error = kind.__new__(kind)
    PenstockError.__init__(error, message, param=told.pop("param", None))
    for name, value in told.items():
        setattr(error, name, tuple(value) if isinstance(value, list) else value)
    for name in ("upstream_code", "attempts"):
        if not hasattr(error, name):
            setattr(error, name, () if name == "attempts" else None)
    return error


def may_pass(text: str) -> bool:
    """Whether the same request may succeed later: its failure was a provider's, a limit's, or money's."""
    error = read(text)
    lasting = isinstance(error, CallerError | UpstreamRefused)
    return not lasting or isinstance(error, RateLimited | BudgetExceeded)


def _tree(kind: type[PenstockError]) -> dict[str, type[PenstockError]]:
    found = {kind.__name__: kind}
    for child in kind.__subclasses__():
        found |= _tree(child)
    return found


_KINDS = _tree(PenstockError)
