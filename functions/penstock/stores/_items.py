"""DynamoDB's items: records with a type beside every value."""

from __future__ import annotations

import base64
from collections.abc import Callable, Hashable, Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Any, TypeVar, cast

Item = dict[str, dict[str, Any]]

T = TypeVar("T")

_DUMP: dict[type, Callable[[Any], dict[str, Any]]] = {
    str: lambda value: {"S": value},
    int: lambda value: {"N": str(value)},
    float: lambda value: {"N": repr(value)},
    bool: lambda value: {"BOOL": value},
    bytes: lambda value: {"B": base64.b64encode(value).decode("ascii")},
    tuple: lambda value: {"L": [{"S": part} for part in value]},
}

_LOAD: dict[str, Callable[[Any], Any]] = {
    "S": lambda value: value,
    "N": lambda value: float(value) if set(value) & set(".eE") else int(value),
    "BOOL": lambda value: value,
    "B": base64.b64decode,
    "L": lambda value: tuple(part["S"] for part in value),
}


def dump(values: Mapping[str, Any]) -> Item:
    """The item of these values; what is ``None`` is left out."""
    return {name: _DUMP[type(value)](value) for name, value in values.items() if value is not None}


def load(kind: type[T], item: Item) -> T:
    """The record of this kind in an item. What a newer version added to the item is passed over."""
    return kind(**load_values(kind, item))


def load_values(kind: type[Any], item: Item) -> dict[str, Any]:
    """The values of a record's fields in an item."""
    values = {}
    for name, real in _fields(cast(Hashable, kind)):
        if name in item:
            ((tag, value),) = item[name].items()
            values[name] = float(value) if real else _LOAD[tag](value)
    return values


@lru_cache
def _fields(kind: Any) -> tuple[tuple[str, bool], ...]:
    """Names of a record's fields, and whether each holds a float: DynamoDB writes 5.0 as 5."""
    return tuple((field.name, str(field.type).startswith("float")) for field in fields(kind))
