"""JSON as Penstock reads and writes it: strict on the way in, compact on the way out."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json, to_json

__all__ = ["parse", "to_json"]


def parse(data: bytes | str) -> Any:
    """A JSON document; ``ValueError`` if it is none (NaN, lone surrogates, bad UTF-8, depth over 200 included)."""
    return from_json(data, allow_inf_nan=False, cache_strings="keys")
