"""Regular expressions of a configuration: only such as need no more time than a text is long, whatever the text."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

WIDEST = 256
"""Ways in which one pattern may be tried at one place of a text."""
UNBOUNDED = "bounded: write {1,40} in the place of + and *, and no repeat inside of another"
_REPEATS = ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")


def mistake_in(pattern: str) -> str | None:
    """What a pattern must be that it is not; ``None`` if it may be used."""
    try:
        re.compile(pattern)
        parsed: Any = import_module("re._parser").parse(pattern)
        ways = _ways(parsed, repeated=False)
    except re.error as error:
        return f"a regular expression: {error}"
    except ValueError as error:
        return str(error)
    if parsed.getwidth()[0] == 0:
        return "a pattern that does not match nothing at all"
    return None if ways <= WIDEST else UNBOUNDED


def _ways(parsed: Any, *, repeated: bool) -> int:
    """In how many ways a sequence may be tried. Raises ``ValueError`` where nobody can tell."""
    ways = 1
    for operator, argument in parsed:
        if str(operator) in _REPEATS:
            low, high, inner = argument
            if high > WIDEST or (repeated and high > low):
                raise ValueError(UNBOUNDED)
            ways *= (high - low + 1) * _ways(inner, repeated=True)
        elif str(operator) == "BRANCH":
            ways *= sum(_ways(branch, repeated=repeated) for branch in argument[1])
        elif str(operator) in ("SUBPATTERN", "ATOMIC_GROUP", "ASSERT", "ASSERT_NOT"):
            inner = argument[-1] if isinstance(argument, tuple) else argument
            ways *= _ways(inner, repeated=repeated)
        elif str(operator) in ("GROUPREF", "GROUPREF_EXISTS"):
            raise ValueError("a pattern without references to its own groups")
    return ways
