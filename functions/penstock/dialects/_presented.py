"""The keys that a request shows: its API key, and the one that tells a repeat of it from another request."""

from __future__ import annotations

import re

from penstock.dialects._exchange import Exchange
from penstock.errors import InvalidRequest

_KEY = re.compile(r"[\x21-\x7e]{1,255}")


def presented_key(exchange: Exchange) -> str | None:
    """The key of a request: ``Authorization: Bearer``, else the configured header (``X-API-Key``)."""
    name = exchange.house.key_header
    other = None
    for key, value in exchange.scope["headers"]:
        if key == b"authorization" and value[:7].lower() == b"bearer ":
            return bytes(value[7:]).decode("latin-1").strip()
        if key == name:
            other = bytes(value).decode("latin-1").strip()
    return other


def idempotency_key(exchange: Exchange) -> str | None:
    """The request's idempotency key. Raises ``InvalidRequest`` if it is none, or there are two."""
    given = exchange.headers(b"idempotency-key")
    if not given:
        return None
    key = given[0].strip().strip('"')  # the draft has it a string of RFC 8941, others send it bare
    if len(given) > 1 or not _KEY.fullmatch(key):
        raise InvalidRequest(
            "Idempotency-Key must be one value of 1 to 255 visible ASCII characters.", param="Idempotency-Key"
        )
    return key
