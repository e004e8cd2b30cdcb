"""How a caller's limits stand, as headers of every answer."""

from __future__ import annotations

import time

from penstock.schema.limit import Standing

RawHeaders = list[tuple[bytes, bytes]]


def limit_headers(standing: Standing) -> RawHeaders:
    """``X-RateLimit-Limit``, ``-Remaining`` and ``-Reset`` (when all is back, in epoch seconds) of the tightest limit;
    and OpenAI's own, in which a reset is a duration: https://platform.openai.com/docs/guides/rate-limits
    """
    headers: RawHeaders = []
    now = time.time()
    requests, tokens = standing
    if requests is not None:
        limit, remaining, reset_at = requests
        headers = [
            (b"x-ratelimit-limit", b"%d" % limit),
            (b"x-ratelimit-remaining", b"%d" % remaining),
            (b"x-ratelimit-reset", b"%d" % -(-reset_at // 1)),
            (b"x-ratelimit-limit-requests", b"%d" % limit),
            (b"x-ratelimit-remaining-requests", b"%d" % remaining),
            (b"x-ratelimit-reset-requests", b"%dms" % max(0, (reset_at - now) * 1000)),
        ]
    if tokens is not None:
        limit, remaining, reset_at = tokens
        headers += [
            (b"x-ratelimit-limit-tokens", b"%d" % limit),
            (b"x-ratelimit-remaining-tokens", b"%d" % remaining),
            (b"x-ratelimit-reset-tokens", b"%dms" % max(0, (reset_at - now) * 1000)),
        ]
    return headers
