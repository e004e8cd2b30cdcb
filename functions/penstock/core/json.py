"""JSON as Penstock reads and writes it: strict on the way in, compact on the way out."""

from __future__ import annotations

import math
from typing import Any

from pydantic_core import from_json, to_json

from penstock.errors import InvalidRequest

__all__ = ["parse", "to_json", "write"]


def parse(data: bytes | str) -> Any:
    """A JSON document; ``ValueError`` if it is none (NaN, lone surrogates, bad UTF-8, depth over 200 included)."""
    return from_json(data, allow_inf_nan=False, cache_strings="keys")


def write(document: dict[str, Any]) -> bytes:
    """A caller's document for the next one to read.

    Raises ``InvalidRequest`` for a number beyond a double, which is valid JSON to read but has no form to be written.
    """
    data = to_json(document)
    if b"Infinity" in data:
        _refuse_infinity(document, "")
    return data


def _refuse_infinity(value: Any, path: str) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _refuse_infinity(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _refuse_infinity(inner, f"{path}.{number}")
    elif isinstance(value, float) and math.isinf(value):
        raise InvalidRequest(f"{path}: is a number too large.", param=path)
