"""Reading ``config.yaml``: as a whole, before anything starts, with the file, line and key of a mistake.

Imported when there is a file to read: pydantic and PyYAML are a third of a small door's cold start.
"""

from __future__ import annotations

import difflib
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from pydantic_core import to_json

from penstock.errors import SettingsError
from penstock.schema import config as sections
from penstock.schema.config import Document

Keys = tuple[int | str, ...]

for _section in vars(sections).values():
    if isinstance(_section, type) and is_dataclass(_section):
        with_config(ConfigDict(extra="forbid", strict=True))(_section)
_DOCUMENT = TypeAdapter(Document)


def read_document(path: str) -> Document:
    """Check a configuration file as a whole. Raises ``SettingsError`` for its first mistake."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError("there is no such file; config.example.yaml is one to start from", where=path) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"cannot be read: {reason}", where=path) from None
    tree, values = _parse(text, path)
    try:
        document = _DOCUMENT.validate_json(to_json(values, fallback=str))  # strict, and yet mappings become records
    except ValidationError as error:
        raise _first_mistake(error, tree, path) from None
    _check_providers(document, tree, path)
    return document


def _parse(text: str, path: str) -> tuple[yaml.Node | None, Any]:
    """The file as nodes, which know their lines, and as values."""
    try:
        tree: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_repeats(tree, path)
        return tree, {} if tree is None else yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        where = f"{path}:{error.problem_mark.line + 1}" if error.problem_mark else path
        raise SettingsError(f"is not YAML: {error.problem}", where=where) from None
    except yaml.YAMLError as error:
        raise SettingsError(f"is not YAML: {str(error).splitlines()[0]}", where=path) from None


def _refuse_repeats(node: yaml.Node | None, path: str) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise SettingsError("is given twice", setting=str(key.value), where=f"{path}:{key.start_mark.line + 1}")
            seen.add(key.value)
            _refuse_repeats(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_repeats(value, path)


def _first_mistake(error: ValidationError, tree: yaml.Node | None, path: str) -> SettingsError:
    mistakes = error.errors(include_url=False, include_input=False)
    unread = (m for m in mistakes if m["type"] == "unexpected_keyword_argument")
    mistake = next(unread, max(mistakes, key=lambda m: len(m["loc"])))  # of a union's branches, the one that was meant
    keys = tuple(key for key in mistake["loc"] if key not in ("str", "Model"))
    message = mistake["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if mistake["type"] == "unexpected_keyword_argument":
        close = difflib.get_close_matches(str(keys[-1]), _known_keys(keys[:-1]), n=1, cutoff=0.5)
        message = "nothing reads this key" + (f"; did you mean {close[0]!r}?" if close else "")
    elif mistake["type"] == "value_error" and ": " in message:
        name, message = message.split(": ", 1)
        keys = (*keys, name)
    elif mistake["type"] == "missing":
        message = "is missing"
    elif mistake["type"] == "dataclass_type":
        message = "must hold a mapping of keys such as 'name:'" if keys else "must hold sections such as 'providers:'"
    setting = ".".join(map(str, keys)) or None
    return SettingsError(message, setting=setting, where=f"{path}:{_line(tree, keys)}")


def _known_keys(keys: Keys) -> list[str]:
    """The keys of the section at this place of the document."""
    section: Any = Document
    for key in keys:
        hint = get_type_hints(section)[key] if isinstance(key, str) else section
        section = _section_in(hint) or section
    return [known.name for known in fields(section)]


def _section_in(hint: Any) -> Any:
    """The section's record inside a type such as ``list[Provider] | None``."""
    if is_dataclass(hint):
        return hint
    return next((found for part in get_args(hint) if (found := _section_in(part))), None)


def _line(tree: yaml.Node | None, keys: Keys) -> int:
    """The line of the deepest part of the path that the file holds."""
    line = 1
    for key in keys:
        if isinstance(tree, yaml.MappingNode):
            pair = next(((k, v) for k, v in tree.value if k.value == str(key)), None)
            if pair is None:
                break
            line, tree = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(tree, yaml.SequenceNode) and isinstance(key, int) and key < len(tree.value):
            tree = tree.value[key]
            line = tree.start_mark.line + 1
        else:
            break
    return line


def _check_providers(document: Document, tree: yaml.Node | None, path: str) -> None:
    names: set[str] = set()
    for number, provider in enumerate(document.providers or ()):
        if provider.name in names:
            where = f"{path}:{_line(tree, ('providers', number, 'name'))}"
            raise SettingsError(
                f"{provider.name!r} is the name of two providers", setting="providers.name", where=where
            )
        names.add(provider.name)
