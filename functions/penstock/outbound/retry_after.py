"""When a server says that it may be asked again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of ``Retry-After``, given as seconds or as a date (RFC 9110, 10.2.3), or of OpenAI's finer
    ``retry-after-ms``; at most a day.
    """
    seconds = _number(headers.get("retry-after-ms")) / 1000
    if math.isnan(seconds):
        seconds = _seconds(headers.get("retry-after"))
    return None if math.isnan(seconds) else min(max(seconds, 0.0), 86400.0)


def _seconds(value: str | None) -> float:
    seconds = _number(value)
    if value and math.isnan(seconds):
        try:
            when = parsedate_to_datetime(value)
        except ValueError:
            return seconds
        return (when - datetime.now(UTC if when.tzinfo else None)).total_seconds()
    return seconds


def _number(value: str | None) -> float:
    """The number that a header is, or NaN."""
    try:
        return float(value or "nan")
    except ValueError:
        return math.nan
