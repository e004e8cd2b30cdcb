"""A value that a JSON schema admits, as far as the schema is of the plain kinds."""

from __future__ import annotations

from typing import Any

DEEPEST = 20
LARGEST = 1000
_PLAIN = {"string": "simulated", "integer": 0, "number": 0, "boolean": True, "null": None, "array": [], "object": {}}


def example(schema: Any) -> Any:
    """The value; ``{}`` where the schema is out of the ordinary, or too large. Any JSON document may be given."""
    return _Schema(schema).value(schema, 0)


class _Schema:
    """A whole schema, which its parts refer to, and how many more values may be made of it."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._left = LARGEST

    def value(self, part: Any, depth: int) -> Any:
        self._left -= 1
        if not isinstance(part, dict) or depth > DEEPEST or self._left < 0:
            return {}
        if "const" in part:
            return part["const"]
        if isinstance(part.get("enum"), list) and part["enum"]:
            return part["enum"][0]
        if isinstance(part.get("$ref"), str):
            return self.value(self._found(part["$ref"]), depth + 1)
        for branches in (part.get(word) for word in ("anyOf", "oneOf", "allOf")):
            if isinstance(branches, list) and branches:
                return self.value(branches[0], depth + 1)
        return self._of_kind(part, depth)

    def _of_kind(self, part: dict[str, Any], depth: int) -> Any:
        kind = part.get("type", "object" if "properties" in part else "string")
        if isinstance(kind, list) and kind:
            kind = kind[0]
        properties, least = part.get("properties"), part.get("minItems", 0)
        if kind == "object" and isinstance(properties, dict):
            return {name: self.value(inner, depth + 1) for name, inner in properties.items()}
        if kind == "array" and isinstance(least, int):
            return [self.value(part.get("items"), depth + 1) for _ in range(min(least, LARGEST))]
        if kind in ("integer", "number") and isinstance(part.get("minimum"), (int, float)):
            return part["minimum"]
        return _PLAIN.get(kind, {}) if isinstance(kind, str) else {}

    def _found(self, reference: str) -> Any:
        """What ``#/$defs/Name`` refers to."""
        found = self._root
        for name in reference.removeprefix("#/").split("/"):
            found = found.get(name) if isinstance(found, dict) else None
        return found
