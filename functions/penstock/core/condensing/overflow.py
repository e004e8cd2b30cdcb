"""Whether a provider refused a request because it is too long, and what it said of the lengths."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from penstock.errors import UpstreamRefused

CODE = "context_length_exceeded"
"""OpenAI's code, which refusals get whose words are known for it (``providers/_faults``)."""
SMALLEST, LARGEST = 64, 10**9
_NUMBER = r"(\d[\d,]*)"
_WINDOW = (
    rf"> {_NUMBER}",
    rf"with {_NUMBER} maximum context",
    rf"(?:context[ _](?:length|window|limit|size)|maximum(?: model| prompt)?(?: length)?|limit)[^\d>]{{0,60}}{_NUMBER}",
)
_ASKED = (
    rf"{_NUMBER} (?:tokens )?(?:in|from) the (?:messages|prompt|input)",
    rf"length {_NUMBER}\) is longer",
    rf"(?:input|prompt|request) \({_NUMBER} tokens",
    rf"(?:too long|limit): {_NUMBER}",
    rf"{_NUMBER} input tokens",
    rf"input token count \({_NUMBER}\)",
    rf"(?:resulted in|contains)(?: at least)? {_NUMBER} tokens",
)


class Overflow(NamedTuple):
    """How many tokens the model takes, and how many the prompt has, as far as it was said."""

    window: int | None = None
    asked: int | None = None


def is_overflow(refusal: UpstreamRefused, patterns: Sequence[str]) -> bool:
    """Whether the refusal is one of length: by its code, or by a pattern in code or words, in any case."""
    if refusal.upstream_code == CODE:
        return True
    words = f"{refusal.upstream_code} {refusal.message}".lower()
    return any(pattern.lower() in words for pattern in patterns)


def overflow_of(refusal: UpstreamRefused) -> Overflow:
    """What the refusal says in numbers."""
    return Overflow(_first(_WINDOW, refusal.message), _first(_ASKED, refusal.message))


def _first(patterns: Sequence[str], message: str) -> int | None:
    for pattern in patterns:
        if found := re.search(pattern, message, re.I):
            number = int(found[1].replace(",", "")[:12])
            if SMALLEST <= number <= LARGEST:
                return number
    return None
