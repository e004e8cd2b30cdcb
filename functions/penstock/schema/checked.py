"""Whether a request's document is one: checked once, with words about the field at fault."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from penstock.errors import InvalidRequest
from penstock.schema.mistake import Path, mistakes, reason

DEEPEST = 8
"""Parts of a path that an error names."""
_CONTROL = re.compile(r"[\0-\x07\v\x0e-\x1f]")


def check(document: dict[str, Any], schema: type[BaseModel]) -> None:
    """Raise ``InvalidRequest`` naming the field at fault, unless the document is as it must be."""
    try:
        schema.__pydantic_validator__.validate_python(document)
    except ValidationError as error:
        raise _worst(error, document) from None


def refuse_controls(value: Any, path: Path = ()) -> None:
    """Refuse control characters, all but those that JSON has a short escape for (docs/decisions/0005)."""
    if isinstance(value, dict):
        for key, inner in value.items():
            refuse_controls(key, path)
            refuse_controls(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            refuse_controls(inner, (*path, str(number)))
    elif isinstance(value, str) and _CONTROL.search(value):
        raise at_fault(path, "holds a control character")


def _worst(error: ValidationError, document: dict[str, Any]) -> InvalidRequest:
    """A missing field of the body itself, else what went deepest: of a union's branches the one that was meant."""

    def weight(found: tuple[Path, ErrorDetails]) -> tuple[bool, int, bool]:
        place, mistake = found
        return mistake["type"] == "missing" and len(place) == 1, len(place), not mistake["type"].endswith("_type")

    found = mistakes(error, document)
    path, _ = max(found, key=weight)
    return at_fault(path, reason(mistake for where, mistake in found if where == path))


def named(path: Path) -> str | None:
    """The name of a field for an error's ``param``; ``None`` for the body itself."""
    shown = path if len(path) <= DEEPEST else (*path[:DEEPEST], "...")
    return ".".join(part[:100] for part in shown).encode("utf-8", "replace").decode() or None


def at_fault(path: Path, words: str) -> InvalidRequest:
    """The error of a field."""
    field = named(path)
    return InvalidRequest(f"{field}: {words}." if field else f"The body {words}.", param=field)
