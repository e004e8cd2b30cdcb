"""What messages of OpenAI's wire hold, read for the wires that say it in another form."""

from __future__ import annotations

import re
from typing import Any

from penstock.core.json import parse
from penstock.providers._line import refused

_DATA = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[\w=.+-]+)*;base64,(.*)", re.DOTALL)


def called(call: dict[str, Any], place: str) -> tuple[str, dict[str, Any]]:
    """Name and arguments of a tool call in a message. Raises ``UpstreamRefused`` if they are none."""
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise refused(f"{place}: is no call of a function.", place)
    try:
        arguments = parse(function.get("arguments") or "{}")
    except (ValueError, TypeError):
        arguments = None
    if not isinstance(arguments, dict):
        raise refused(f"{place}.function.arguments: must be a JSON object, written as text.", place)
    return function["name"], arguments


def image_url(part: dict[str, Any]) -> Any:
    """The address in an ``image_url`` part, in its long form or its short one."""
    image = part.get("image_url")
    return image.get("url") if isinstance(image, dict) else image


def inline(url: Any) -> tuple[str, str] | None:
    """Type and base64 of a ``data:`` address; ``None`` if it is none."""
    found = _DATA.fullmatch(url) if isinstance(url, str) else None
    return (found[1], found[2]) if found else None


def closed(schema: Any) -> Any:
    """The schema with its objects closed, as vendors demand and OpenAI assumes."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: value if name in ("enum", "const", "default") else closed(value) for name, value in schema.items()}
    kind = schema.get("type")
    if kind == "object" or (isinstance(kind, list) and "object" in kind):
        found.setdefault("additionalProperties", False)
    return found
