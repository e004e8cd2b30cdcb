"""A virtual key as flat values: the form in which every store keeps it, its limits and budget as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from penstock.schema.key import VirtualKey
from penstock.schema.limit import Budget, Limits, stated

T = TypeVar("T", Limits, Budget)


def flat(key: VirtualKey) -> dict[str, Any]:
    """The key's fields, in their order."""
    values = {field.name: getattr(key, field.name) for field in fields(key)}
    return values | {name: _dump(values[name]) for name in ("limits", "budget")}


def whole(values: Mapping[str, Any]) -> VirtualKey:
    """The key that these values were made of."""
    limits, budget = values.get("limits"), values.get("budget")
    return VirtualKey(**{**values, "limits": _load(Limits, limits), "budget": _load(Budget, budget)})


def _dump(record: Limits | Budget | None) -> str | None:
    return None if record is None else json.dumps(stated(record), separators=(",", ":"))


def _load(kind: type[T], text: str | None) -> T | None:
    """The record in a text. What a newer version added to it is passed over."""
    if text is None:
        return None
    known = {field.name for field in fields(kind)}
    return kind(**{name: value for name, value in json.loads(text).items() if name in known})
