"""Which regular expressions a configuration may hold."""

from __future__ import annotations

import pytest

from penstock.schema.bounded_pattern import mistake_in

GOOD = [
    r"\bPRJ-\d{4,8}\b",
    r"(?i)confidential",
    r"[A-Z]{2}\d{6}[A-Z]?",
    r"(?:alpha|beta|gamma)-\d{1,3}",
    r"a(?=b{1,4})",
]
BAD = [
    "a+",
    ".*x",
    r"(\d{1,9}){1,9}",
    r"\w{2,}@",
    "(",
    "",
    "a?",
    r"(a)\1{1,200}",
    "a{1,100}b{1,100}",
    "(?P<x>a{1,2}){3,4}",
]


@pytest.mark.parametrize("pattern", GOOD)
def test_a_bounded_pattern_may_be_used(pattern: str) -> None:
    assert mistake_in(pattern) is None


@pytest.mark.parametrize("pattern", BAD)
def test_a_pattern_that_could_take_forever_or_fits_everywhere_may_not(pattern: str) -> None:
    assert mistake_in(pattern)
