"""``Cache-Control`` of a request, and what its answer says of caches."""

from __future__ import annotations

from penstock.dialects._exchange import Exchange, RawHeaders
from penstock.schema.freshness import HIT, USUAL, Freshness
from penstock.schema.request import Request


def freshness(exchange: Exchange) -> Freshness:
    """What the request says of answers that are kept; a directive that is not known is passed over."""
    given = exchange.headers(b"cache-control")
    if not given:
        return USUAL
    store, max_age, only_kept = True, None, False
    for directive in ",".join(given).lower().split(","):
        name, _, value = directive.partition("=")
        name = name.strip()
        if name == "no-store":
            store = False
        elif name == "only-if-cached":
            only_kept = True
        elif name in ("no-cache", "max-age"):
            age = _seconds(value) if name == "max-age" else 0.0
            max_age = age if max_age is None else min(age, max_age)
    return Freshness(store, max_age, only_kept)


def _seconds(value: str) -> float:
    """A directive's seconds; 0 for what is no number: then nothing is fresh (RFC 9111, 4.2.1)."""
    digits = value.strip().strip('"')
    return float(digits[:10]) if digits.isascii() and digits.isdigit() else 0.0


def cache_headers(request: Request) -> RawHeaders:
    """``x-cache``, where there is a cache, and the ``age`` of what came out of it."""
    if not request.cache:
        return []
    told = [(b"x-cache", request.cache.encode())]
    if request.cache == HIT:
        told.append((b"age", b"%d" % request.age))
    return told
