"""Reading ``config.yaml``: as a whole, before anything starts, with the file, line and key of a mistake.

Imported when there is a file to read: pydantic and PyYAML are a third of a small door's cold start.
"""

from __future__ import annotations

import difflib
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from pydantic_core import ErrorDetails, from_json, to_json

from penstock.config.loader import Loader
from penstock.config.secrets import refuse_masks
from penstock.errors import SettingsError
from penstock.schema import config as sections
from penstock.schema.alert_section import AlertSection
from penstock.schema.caching_section import CachingSection, MemorySection
from penstock.schema.chaos_section import ChaosSection
from penstock.schema.classification_section import ClassificationSection
from penstock.schema.condensation_section import CondensationSection
from penstock.schema.config import Document
from penstock.schema.mistake import mistakes, reason
from penstock.schema.source import Source
from penstock.schema.telemetry_section import TelemetrySection
from penstock.schema.template_section import TemplateSection
from penstock.schema.worker import WORKERS

UNREAD = "unexpected_keyword_argument"
MOST = 8 * 2**20
"""Letters and nodes of a configuration, with each alias as what it stands for: a few lines could fill any memory."""
Found = tuple[tuple[str, ...], ErrorDetails]
"""A mistake, and where it is."""


def _strictly(kind: Any, walked: set[Any]) -> None:
    """Have a section, and all that may stand in it, take nothing but what it names."""
    if isinstance(kind, type) and is_dataclass(kind) and kind not in walked:
        walked.add(kind)
        with_config(ConfigDict(extra="forbid", strict=True))(kind)
        for hint in get_type_hints(kind).values():
            _strictly(hint, walked)
    for inner in get_args(kind):
        _strictly(inner, walked)


for _late in (
    *(AlertSection, CachingSection, ChaosSection, ClassificationSection, CondensationSection, MemorySection),
    *(TelemetrySection, TemplateSection),
):
    setattr(sections, _late.__name__, _late)  # so that its fields' types can be looked up there
_strictly(Document, set())
DOCUMENT = TypeAdapter(Document)


def read(path: str) -> Source:
    """The text of a file. Raises ``SettingsError``."""
    try:
        return Source(path, Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError("there is no such file; config.example.yaml is one to start from", where=path) from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"cannot be read: {why}", where=path) from None


def document_of(source: Source) -> Document:
    """Check a configuration as a whole. Raises ``SettingsError`` for its first mistake."""
    path = source.name
    tree, values = _parse(source.text, path)
    refuse_masks(tree, path)
    if not isinstance(values, dict):
        raise _fault(tree, path, [], "must hold sections such as 'providers:'")
    try:
        data = to_json({key: value for key, value in values.items() if value is not None})
        document = DOCUMENT.validate_json(data)  # strict, and yet mappings become records
    except ValidationError as error:
        raise _first_mistake(error, from_json(data), tree, path) from None
    except ValueError:
        raise SettingsError("holds what is no text, number, list or mapping", where=path) from None
    _check_names(document, tree, path)
    if document.rate_limit is not None and "gateway" in (values.get("limits") or {}):
        raise _fault(tree, path, ["rate_limit"], "says what limits.gateway says as well: keep one of them")
    return document


def every_mistake(source: Source) -> list[SettingsError]:
    """All mistakes of a configuration, in the order of their lines: of one that is no YAML, the first."""
    try:
        tree, values = _parse(source.text, source.name)
        refuse_masks(tree, source.name)
        data = to_json({key: value for key, value in values.items() if value is not None})
        DOCUMENT.validate_json(data)
        document_of(source)
    except SettingsError as error:
        return [error]
    except ValidationError as error:
        values = from_json(data)
        left, told = mistakes(error, values), []
        while left:
            where, _ = _meant(left)
            told.append(_told([each for each in left if each[0] == where], values, tree, source.name))
            left = [(place, each) for place, each in left if place != where[: len(place)]]
        return sorted(told, key=lambda each: int((each.where or "").rpartition(":")[2] or 0))
    except (AttributeError, ValueError):
        pass
    try:
        document_of(source)
    except SettingsError as error:
        return [error]
    return []


def fault(source: Source, keys: list[int | str], message: str) -> SettingsError:
    """A mistake that shows only once the configuration is put to use; ``keys`` lead to its place."""
    return _fault(yaml.compose(source.text, Loader=Loader), source.name, keys, message)


def _parse(text: str, path: str) -> tuple[yaml.Node | None, Any]:
    """The file as nodes, which know their lines, and as values."""
    try:
        tree: yaml.Node | None = yaml.compose(text, Loader=Loader)
        if _unfolded(tree, {}) > MOST:
            raise SettingsError("unfolds to more than a configuration may be: use fewer aliases", where=path)
        values = {} if tree is None else yaml.load(text, Loader=Loader)  # noqa: S506 - a SafeLoader, without dates
        _refuse_repeats(tree, path, set())
        return tree, values
    except yaml.MarkedYAMLError as error:
        where = f"{path}:{error.problem_mark.line + 1}" if error.problem_mark else path
        tab = " (a tab: indent with spaces)" if error.problem and r"'\t'" in error.problem else ""
        raise SettingsError(f"is not YAML: {error.problem}{tab}", where=where) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SettingsError(
            f"is not YAML: it holds the control character {error.character:#x}", where=f"{path}:{line}"
        ) from None
    except (RecursionError, ValueError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise SettingsError(f"is not YAML: {why}", where=path) from None


def _unfolded(node: yaml.Node | None, known: dict[int, int]) -> int:
    """How large a node is with each alias as what it stands for; one inside of what it names is refused elsewhere."""
    if id(node) not in known:
        known[id(node)] = 1
        parts = node.value if isinstance(node, yaml.CollectionNode) else []
        inner = (part for each in parts for part in (each if isinstance(each, tuple) else (each,)))
        size = sum(_unfolded(part, known) for part in inner)
        known[id(node)] = 1 + size + (len(node.value) if isinstance(node, yaml.ScalarNode) else 0)
    return known[id(node)]


def _refuse_repeats(node: yaml.Node | None, path: str, walked: set[int], within: tuple[int, ...] = ()) -> None:
    """Refuse a key that is given twice, and an alias inside of what it names. Others are walked through once."""
    if node is None or (id(node) in walked and id(node) not in within):
        return
    if id(node) in within:
        raise SettingsError("holds an alias of itself", where=f"{path}:{node.start_mark.line + 1}")
    walked.add(id(node))
    if isinstance(node, yaml.MappingNode):
        names: set[str] = set()
        for key, value in node.value:
            if key.value in names:
                raise SettingsError("is given twice", setting=key.value, where=f"{path}:{key.start_mark.line + 1}")
            names.add(key.value)
            _refuse_repeats(value, path, walked, (*within, id(node)))
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_repeats(value, path, walked, (*within, id(node)))


def _first_mistake(error: ValidationError, values: Any, tree: yaml.Node | None, path: str) -> SettingsError:
    """What is to be told first."""
    found = mistakes(error, values)
    where, _ = _meant(found)
    return _told([each for each in found if each[0] == where], values, tree, path)


def _meant(found: list[Found]) -> Found:
    """An unread key, else what went deepest: of a union's branches the one that was meant."""
    return max(found, key=lambda m: (m[1]["type"] == UNREAD, len(m[0])))


def _told(found: list[Found], values: Any, tree: yaml.Node | None, path: str) -> SettingsError:
    """The mistakes of one place as one."""
    where, mistake = _meant(found)
    keys: list[int | str] = [int(key) if key.isdigit() else key for key in where]
    if mistake["type"] == UNREAD:
        close = difflib.get_close_matches(str(keys[-1]), _known_keys(keys[:-1]), n=1, cutoff=0.5)
        return _fault(tree, path, keys, "nothing reads this key" + (f"; did you mean {close[0]!r}?" if close else ""))
    words = reason(other for _, other in found)
    if mistake["type"] == "value_error":
        name, _, words = words.partition(": ")
        keys.append(name)
    return _fault(tree, path, keys, words.replace("an object", "a mapping") + _quotes(mistake, values, keys))


def _quotes(mistake: ErrorDetails, values: Any, keys: list[int | str]) -> str:
    """What helps where a text looks like something else."""
    if mistake["type"] != "string_type":
        return ""
    for key in keys:
        values = values[key]
    return "" if isinstance(values, (dict, list)) else ": put it in quotes"


def _known_keys(keys: list[int | str]) -> list[str]:
    """The keys of the section at this place of the document."""
    hint: Any = Document
    for key in keys:
        inner = _inner(hint)
        hint = get_type_hints(_section_in(hint))[str(key)] if inner is None else inner
    return [known.name for known in fields(_section_in(hint))]


def _inner(hint: Any) -> Any:
    """What a list or a mapping holds; ``None`` for what is neither."""
    found = (part for part in (hint, *get_args(hint)) if get_origin(part) in (list, dict))
    return next((get_args(part)[-1] for part in found), None)


def _section_in(hint: Any) -> Any:
    """The section's record inside a type such as ``list[Provider] | None``."""
    if is_dataclass(hint):
        return hint
    return next((found for part in get_args(hint) if (found := _section_in(part))), None)


def _check_names(document: Document, tree: yaml.Node | None, path: str) -> None:
    names: set[str] = set()
    for number, provider in enumerate(document.providers or ()):
        if provider.name in names:
            raise _fault(tree, path, ["providers", number, "name"], f"{provider.name!r} is the name of two providers")
        if provider.name == WORKERS:
            raise _fault(tree, path, ["providers", number, "name"], f"{WORKERS!r} is the name of all GPU workers")
        names.add(provider.name)


def _fault(tree: yaml.Node | None, path: str, keys: list[int | str], message: str) -> SettingsError:
    setting = ".".join(map(str, keys)) or None
    return SettingsError(message, setting=setting, where=f"{path}:{_line(tree, keys)}")


def _line(tree: yaml.Node | None, keys: list[int | str]) -> int:
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
