"""What of a configuration the state keeps: the text as it is, without secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml
from pydantic_core import to_json

from penstock.config.loader import Loader
from penstock.errors import SettingsError
from penstock.schema.config import HASHED
from penstock.schema.secret import Secret
from penstock.schema.source import Source

MASK = "***"
_KEYS = re.compile(r"(?i)(?:^|_)(?:password|secret|token|api_key|authorization)$")
_HEADERS = re.compile(r"(?i)auth|key|token|secret|cookie")
_ADDRESS = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")
"""Where secrets may stand: under such keys, in such headers, in such addresses."""
_PROPERTIES = re.compile(r"(?:[&!]\S*\s+)*")

Keys = tuple[str, str]
"""The last two keys that lead to a place."""


def kept(source: Source) -> str:
    """The text without secrets: of a caller's key its hash, of any other ``***``, which no configuration may hold."""
    text = source.text
    found = {id(node): (node, keys) for node, keys in _scalars(yaml.compose(text, Loader=Loader), ("", ""), set())}
    for node, keys in sorted(found.values(), key=lambda each: -each[0].start_mark.index):
        if (instead := _masked(node.value, keys)) is not None:
            first, last = node.start_mark.index, node.end_mark.index
            said = text[first:last]
            properties = _PROPERTIES.match(said)
            before, after = properties.group() if properties else "", "\n" if said.endswith("\n") else ""
            text = text[:first] + before + to_json(instead).decode() + after + text[last:]
    return text


def variables(source: Source) -> set[str]:
    """The environment variables that it names."""
    return {
        str(node.value)
        for node, keys in _scalars(yaml.compose(source.text, Loader=Loader), ("", ""), set())
        if keys[1].endswith("_env") and node.value
    }


def refuse_masks(tree: yaml.Node | None, path: str) -> None:
    """Raise ``SettingsError`` for what the state keeps in the place of a secret."""
    for node, _ in _scalars(tree, ("", ""), set()):
        if node.value == MASK or f":{MASK}@" in node.value:
            message = "a secret stood here, which the state does not keep: name an environment variable that holds it"
            raise SettingsError(message, where=f"{path}:{node.start_mark.line + 1}")


def _masked(value: str, keys: Keys) -> str | None:
    """What is kept of a value; ``None`` if it is no secret."""
    if keys == ("auth", "api_keys"):
        return value if value.startswith(HASHED) else HASHED + Secret(value).sha256()
    if value and (_KEYS.search(keys[1]) or (keys[0] == "custom_headers" and _HEADERS.search(keys[1]))):
        return MASK
    return _ADDRESS.sub(rf"\1{MASK}@", value) if _ADDRESS.search(value) else None


def _scalars(
    node: yaml.Node | None, keys: Keys, walked: set[tuple[int, Keys]]
) -> Iterator[tuple[yaml.ScalarNode, Keys]]:
    """Every scalar, and where it stands; an alias once for each kind of place."""
    if node is None or (id(node), keys) in walked:
        return
    walked.add((id(node), keys))
    if isinstance(node, yaml.ScalarNode):
        yield node, keys
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _scalars(value, keys, walked)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _scalars(value, (keys[1], str(key.value)), walked)
