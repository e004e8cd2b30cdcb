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
_COMMENT = re.compile(r"#[^\r\n]*")
_PROPERTIES = re.compile(r"(?:[&!]\S*\s+)*")

Keys = tuple[str, str]
"""The last two keys that lead to a place."""


def kept(source: Source) -> str:
    """The text without secrets: of a caller's key its hash, of any other ``***``, which no configuration may hold.

    Its comments are left out: a secret that was in use once may stand there.
    """
    text, instead = source.text, dict.fromkeys(_comments(source.text), "")
    for node, keys in _scalars(yaml.compose(text, Loader=Loader), ("", ""), set()):
        place = node.start_mark.index, node.end_mark.index
        if (masked := _masked(node.value, keys)) is not None and to_json(MASK).decode() not in instead.get(place, ""):
            said = text[slice(*place)]
            properties = _PROPERTIES.match(said)
            before, after = properties.group() if properties else "", "\n" if said.endswith("\n") else ""
            instead[place] = before + to_json(masked).decode() + after
    for first, last in sorted(instead, reverse=True):
        text = text[:first] + instead[first, last] + text[last:]
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


def _comments(text: str) -> Iterator[tuple[int, int]]:
    """Where the comments are: in what no token covers, and in the first lines of block scalars."""
    last = 0
    tokens = [(token.start_mark.index, token.end_mark.index, token) for token in yaml.scan(text, Loader=Loader)]
    for first, end, token in [*sorted(tokens, key=lambda each: each[:2]), (len(text), len(text), None)]:
        for comment in _COMMENT.finditer(text, last, max(first, last)):
            yield comment.span()
        if isinstance(token, yaml.ScalarToken) and token.style in ("|", ">"):
            header = text.find("\n", first)
            for comment in _COMMENT.finditer(text, first, header if header >= 0 else end):
                yield comment.span()
        last = max(last, end)
