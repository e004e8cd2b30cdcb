"""What is known of Claude models by their names, for the API refuses what a model does not take.

https://platform.claude.com/docs/en/build-with-claude/thinking-troubleshooting and …/effort, as of 2026-10.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_NAME = re.compile(r"claude-(?:(?P<after>\d)(?:[-.](?P<minor>\d{1,2})(?!\d))?-?)?(?P<family>[a-z]+)?(?P<rest>.*)")
_NUMBER = re.compile(r"-(\d{1,2})(?:[-.](\d{1,2})(?!\d))?(?!\d)")
NEWEST = (99, 0)
"""A name without a number, such as ``claude-mythos-preview``."""


@dataclass(frozen=True, slots=True)
class Claude:
    """One model.

    ``most``: tokens of its longest answer. ``thinks``: ``budget`` (of tokens, told with the request), ``adaptive`` (as
    it sees fit, at an effort), or not at all. ``quiet``: the ``thinking.type`` that turns thinking off, empty where
    it is off unless asked for, ``None`` where it is always on. ``samples``: takes a temperature. ``both``: together
    with ``top_p``. ``schemas``: answers by a JSON schema. ``forced``: can be made to use a tool. ``xhigh``: knows this
    effort.
    """

    most: int
    thinks: str
    quiet: str | None
    samples: bool
    both: bool
    schemas: bool
    forced: bool
    xhigh: bool


STRANGER = Claude(8192, "", "", samples=True, both=True, schemas=False, forced=True, xhigh=False)
"""A model of somebody else's behind the same wire."""


@lru_cache(maxsize=256)
def traits(model: str) -> Claude:
    """What a model takes, by the upstream's name for it; one that is newer than this page is like the newest here."""
    found = _family(model)
    if found is None:
        return STRANGER
    family, version = found
    return Claude(
        most=_most(family, version),
        thinks="" if version < (3, 7) else "budget" if version < (4, 6) else "adaptive",
        quiet=_quiet(family, version),
        samples=version < (4, 7),
        both=version < (4, 1),
        schemas=version >= (4, 5),
        forced=family == "haiku" or version < ((5, 1) if family in ("fable", "mythos") else (5, 5)),
        xhigh=version >= (4, 7),
    )


def _family(model: str) -> tuple[str, tuple[int, int]] | None:
    """``opus`` and (4, 5) of ``claude-opus-4-5-20251101``; older names have the number first."""
    found = _NAME.search(model)
    if found is None:
        return None
    family = found["family"] or ""
    if found["after"]:
        return family, (int(found["after"]), int(found["minor"] or 0))
    number = _NUMBER.match(found["rest"])
    return family, (int(number[1]), int(number[2] or 0)) if number else NEWEST


def _most(family: str, version: tuple[int, int]) -> int:
    if version < (3, 5):
        return 4096
    if version < (3, 7):
        return 8192
    if family == "opus" and version <= (4, 1):
        return 32_000
    return 64_000 if version < (4, 6) else 128_000


def _quiet(family: str, version: tuple[int, int]) -> str | None:
    if version < (5, 0):
        return ""
    if family == "haiku" or (version < (5, 5) and family in ("opus", "sonnet")):
        return "disabled"
    return "between_tools" if family == "sonnet" else None
