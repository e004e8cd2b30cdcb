"""Reading the body of a request: once, strictly, and with words about what is wrong and where."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel

from penstock.core.json import parse
from penstock.dialects._exchange import Exchange
from penstock.errors import InvalidRequest
from penstock.schema.checked import at_fault, check, named, refuse_controls
from penstock.schema.mistake import Path

SEARCHED = 1024 * 1024
"""Bytes of a broken body in which the field at fault is looked for."""
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{},:]', re.DOTALL)
_PLACE = re.compile(r" at line (\d+) column (\d+)$")
_REASONS = {
    "recursion limit": "is nested deeper than 200 levels",
    "hex escape": "holds half of a surrogate pair",
    "invalid escape": "holds an escape that JSON does not have",
    "unicode code point": "holds bytes that are not UTF-8",
    "control character": "holds a control character",
    "number out of range": "is a number too large",
}


async def read_body(exchange: Exchange, schema: type[BaseModel]) -> dict[str, Any]:
    """The document that the request carries, checked. Raises ``InvalidRequest`` naming the field at fault."""
    document = await read_document(exchange)
    check(document, schema)
    return document


async def read_document(exchange: Exchange) -> dict[str, Any]:
    """The document that the request carries, strictly JSON. Raises ``InvalidRequest`` naming the field at fault."""
    return strictly(exchange, await exchange.body())


def strictly(exchange: Exchange, data: bytes) -> dict[str, Any]:
    """The object that the body of a request spells. Raises ``InvalidRequest`` for whatever is not strictly JSON."""
    kind = exchange.header(b"content-type")
    if kind is not None and "json" not in kind.lower():  # a web page can send the others to any address unasked
        raise InvalidRequest(
            f"The body must be JSON, but its Content-Type is {kind[:100]!r}: send 'Content-Type: application/json'.",
            param="Content-Type",
        )
    try:
        document = parse(data)
    except ValueError as error:
        raise _unreadable(data, str(error), exchange.header(b"content-encoding")) from None
    if not isinstance(document, dict):
        raise InvalidRequest("The body must be a JSON object.")
    if b"\\u00" in data:
        refuse_controls(document)
    return document


def _unreadable(data: bytes, error: str, encoding: str | None) -> InvalidRequest:
    """Why these bytes are no JSON, and in which field that shows."""
    if not data.strip():
        return InvalidRequest("The body is empty: send a JSON object.")
    if (encoding or "identity") != "identity" or data.startswith(b"\x1f\x8b"):
        return InvalidRequest("The body is compressed: send it as plain JSON.", param="Content-Encoding")
    if data.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")) or b"\0" in data[:4]:
        return InvalidRequest("The body must be UTF-8 without a byte order mark.")
    place = _PLACE.search(error)
    path = _path_at(_before(data, int(place[1]), int(place[2]))[:SEARCHED]) if place else ()
    for sign, words in _REASONS.items():
        if sign in error:
            return at_fault(path, words)
    return InvalidRequest(f"The body is not valid JSON: {error}.", param=named(path))


def _before(data: bytes, line: int, column: int) -> bytes:
    start = 0
    for _ in range(line - 1):
        start = data.index(b"\n", start) + 1
    return data[: start + max(column - 1, 0)]


def _path_at(data: bytes) -> Path:
    """The field at which this beginning of a JSON text breaks off."""
    path: list[str | int] = []
    last = b""
    for match in _TOKEN.finditer(data):
        token = match.group()
        if token in b"{[":
            path.append("" if token == b"{" else 0)
        elif not path:
            continue
        elif token in b"}]":
            path.pop()
        elif token == b":":
            path[-1] = last[1:-1].decode("utf-8", "replace")
        elif token == b",":
            path[-1] = path[-1] + 1 if isinstance(path[-1], int) else ""
        else:
            last = token
    return tuple(str(part) for part in path if part != "")
