"""A registry's cards and selections as JSON arrays: the form in which every store keeps them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any, TypeVar

from penstock.schema.model import ModelCard, Selection

T = TypeVar("T", ModelCard, Selection)


def dump(records: Sequence[ModelCard] | Sequence[Selection]) -> str:
    """The records as a JSON array; what nobody said of them is left out."""
    spoken = [{name: value for name, value in asdict(record).items() if value not in (None, ())} for record in records]
    return json.dumps(spoken, separators=(",", ":"))


def load(kind: type[T], text: str) -> tuple[T, ...]:
    """The records of a JSON array; what a newer version added to them is passed over."""
    known = {field.name for field in fields(kind)}

    def whole(record: dict[str, Any]) -> T:
        return kind(**{name: _tuple(value) for name, value in record.items() if name in known})

    return tuple(map(whole, json.loads(text)))


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
