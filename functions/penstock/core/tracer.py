"""Gives each request its place in a trace: one that its caller has begun, or one of its own."""

from __future__ import annotations

import re
from random import getrandbits

from penstock.schema.trace import Trace

_PARENT = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_STATE = re.compile(r"[ -~]{1,512}")
NOBODY = ("0" * 32, "0" * 16)
SAMPLED = 1


class Tracer:
    """Begins traces, of which it samples a share; those of others are sampled as they say."""

    def __init__(self, probability: float) -> None:
        self._below = int(probability * 2**64)

    def begin(self, parent: str | None = None, state: str | None = None) -> Trace:
        """The place of a new request, whose caller may have named a ``traceparent`` and a ``tracestate``."""
        span_id = f"{getrandbits(64) or 1:016x}"
        found = _PARENT.fullmatch(parent.strip()) if parent else None
        if found is None or found[2] == NOBODY[0] or found[3] == NOBODY[1] or (found[1] == "00" and found[5]):
            number = getrandbits(128) or 1
            return Trace(f"{number:032x}", span_id, sampled=number % 2**64 < self._below)
        kept = state.strip() if state else ""
        sampled = bool(int(found[4], 16) & SAMPLED)
        return Trace(found[2], span_id, found[3], sampled, kept if _STATE.fullmatch(kept) else "")
