"""The JSON Schema of ``config.yaml`` (draft 2020-12), made from the records that read it."""

from __future__ import annotations

import re
from typing import Any

from pydantic_core import to_json

from penstock.config import DOCUMENT

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """The schema, with what the records say of themselves; a section that is there and empty is left out."""
    made = _plain(DOCUMENT.json_schema())
    made["properties"] = {name: _or_empty(section) for name, section in made["properties"].items()}
    return {"$schema": DRAFT, **made, "title": "Penstock's config.yaml", "description": "docs/configuration.md"}


def schema_text() -> str:
    """The schema as a file."""
    return to_json(schema(), indent=2).decode() + "\n"


def _or_empty(section: dict[str, Any]) -> dict[str, Any]:
    return section if {"type": "null"} in section.get("anyOf", ()) else {"anyOf": [section, {"type": "null"}]}


def _plain(part: Any) -> Any:
    """Without the marks of our docstrings and of pydantic's titles, which editors would show."""
    if isinstance(part, list):
        return [_plain(each) for each in part]
    if not isinstance(part, dict):
        return part
    told = {key: _plain(value) for key, value in part.items() if key != "title" or not isinstance(value, str)}
    if isinstance(words := told.get("description"), str):
        told["description"] = re.sub(r"\s+", " ", words.replace("``", ""))
    return told
