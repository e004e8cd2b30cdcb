"""What pydantic found wrong with a document, in words for somebody who never heard of pydantic."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

_WORDS = {
    "missing": "is required",
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "is a number too large",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dataclass_type": "must be an object",
    "invalid_key": "must have names that are strings",
    "literal_error": "must be {expected}",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "value_error": "{error}",
}
_MUST = "must be "

Path = tuple[str, ...]


def mistakes(error: ValidationError, document: Any) -> list[tuple[Path, ErrorDetails]]:
    """Each mistake with the path to its field.

    A location names the branches of unions as well as fields; only what the document holds, or lacks, is a field.
    """
    found = error.errors(include_url=False, include_input=False)
    return [(_path(mistake, document), mistake) for mistake in found]


def reason(mistakes: Iterable[ErrorDetails]) -> str:
    """What is wrong with one value, which may have failed in several branches of a union.

    A branch of the right type tells more than the others do; where there is none: ``must be a string or a list``.
    """
    told = {_words(mistake): mistake["type"].endswith("_type") for mistake in mistakes}
    for text, other_type in told.items():
        if not other_type:
            return text
    return _MUST + " or ".join(text.removeprefix(_MUST) for text in told)


def _words(mistake: ErrorDetails) -> str:
    return _WORDS.get(mistake["type"], mistake["msg"]).format(**mistake.get("ctx", {}))


def _path(mistake: ErrorDetails, document: Any) -> Path:
    path = []
    for part in mistake["loc"]:
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):
            continue
        path.append(str(part))
    if mistake["type"] == "missing":
        path.append(str(mistake["loc"][-1]))
    return tuple(path)
