"""The dotted paths of the gateway's present numbers, as ``core/vitals`` tells them, and what is wrong with one."""

from __future__ import annotations

from collections.abc import Iterable

SHARED = (
    *("total_requests", "successful_requests", "failed_requests", "error_rate", "avg_response_time", "total_tokens"),
    "cost",
)
OF_PLACES = (
    *SHARED,
    *("success_rate", "refused_requests", "prompt_tokens", "completion_tokens", "avg_time_to_first_token"),
)
OF_ALL = (*SHARED, "total_providers", "attempts", "average_success_rate", "window")
OF_THE_MACHINE = ("cpu_percent", "memory_percent", "memory_used_mb", "disk_percent")
GROUPS = {"providers": OF_PLACES, "models": OF_PLACES, "summary": OF_ALL, "system": OF_THE_MACHINE}
NAMED = ("providers", "models")
"""Groups whose paths have a name in them, which may hold dots."""
LONGEST = 300


def mistake(path: str) -> str:
    """What is wrong with a path, in words that follow ``must be``; empty if nothing is. Any name is a good one: a
    provider may come later.
    """
    group, _, rest = path.partition(".")
    if len(path) > LONGEST or not path.isprintable():
        return f"a path of at most {LONGEST} printable characters"
    if group not in GROUPS:
        return f"a path that begins with {', '.join(GROUPS)}{_meant(group, GROUPS, '.…')}"
    name, dot, key = rest.rpartition(".")
    if group in NAMED and not (name and dot):
        return f"a path such as {group}.NAME.error_rate"
    if group not in NAMED and dot:
        return f"a path such as {group}.{GROUPS[group][0]}"
    if key not in GROUPS[group]:
        before = f"{group}.{name}." if name else f"{group}."
        close = _meant(key, GROUPS[group], "", before)
        return f"a path that ends in one of {', '.join(sorted(GROUPS[group]))}{close}"
    return ""


def _meant(word: str, known: Iterable[str], after: str, before: str = "") -> str:
    if close := nearest(word, known):
        return f"; did you mean {before}{close}{after}?"
    return ""


def nearest(word: str, known: Iterable[str]) -> str:
    """What somebody may have meant; empty if nothing is near."""
    import difflib  # noqa: PLC0415 - slow to start, and of use to mistakes alone

    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)), "")
