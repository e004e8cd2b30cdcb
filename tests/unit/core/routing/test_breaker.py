"""A breaker leaves alone what fails, and tries it again with few calls."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.routing.breaker import CLOSED, HALF_OPEN, OPEN, Bounds, Breaker

BOUNDS = Bounds(failure_threshold=3, recovery_timeout=10.0, half_open_max_calls=2)


def call(breaker: Breaker, *, failed: bool | None, now: float = 100.0) -> str | None:
    breaker.began()
    return breaker.ended(failed=failed, now=now)


def broken() -> Breaker:
    """A breaker that has just opened, at 100."""
    breaker = Breaker(BOUNDS)
    for _ in range(3):
        call(breaker, failed=True)
    return breaker


def test_failures_in_a_row_open_it() -> None:
    breaker = Breaker(BOUNDS)
    for failed in (True, True, False, True, True):
        call(breaker, failed=failed)
        assert breaker.state(100) == CLOSED
    call(breaker, failed=True)
    assert breaker.state(100) == OPEN
    assert not breaker.admits(109.9)


def test_what_tells_nothing_of_the_place_changes_nothing() -> None:
    breaker = Breaker(BOUNDS)
    for failed in (True, True, None, None, None):
        call(breaker, failed=failed)
    assert breaker.state(100) == CLOSED
    call(breaker, failed=True)
    assert breaker.state(100) == OPEN


def test_after_its_time_few_calls_try() -> None:
    breaker = broken()
    assert breaker.state(110) == HALF_OPEN
    assert not breaker.admits(110), "somebody else may be the one who tries"
    breaker.trying_until = 120
    for _ in range(2):
        assert breaker.admits(110)
        breaker.began()
    assert not breaker.admits(110), "as many as may are trying"
    breaker.ended(failed=None, now=110)
    assert breaker.admits(110), "one of them has left without a word"


def test_one_success_closes_it_and_one_failure_opens_it_again() -> None:
    breaker = broken()
    call(breaker, failed=False, now=110)
    assert breaker.state(110) == CLOSED
    breaker = broken()
    call(breaker, failed=True, now=110)
    assert (breaker.state(119.9), breaker.state(120)) == (OPEN, HALF_OPEN)


def test_it_says_what_it_became() -> None:
    breaker = Breaker(BOUNDS)
    assert [call(breaker, failed=failed) for failed in (True, True, True, True, False, False)] == [
        *(None, None, OPEN),
        *(None, CLOSED, None),
    ], "a call that began before it opened, and fails later, is no news"


def test_it_believes_others_but_its_own_eyes_more() -> None:
    breaker = Breaker(BOUNDS)
    breaker.told(OPEN, 100)
    assert (breaker.state(109.9), breaker.state(110)) == (OPEN, HALF_OPEN)
    call(breaker, failed=False, now=111)
    breaker.told(OPEN, 105)
    assert breaker.state(112) == CLOSED, "that was before"
    breaker.told(OPEN, 113)
    breaker.told(CLOSED, 112)
    assert breaker.state(114) == OPEN
    breaker.told(CLOSED, 115)
    assert breaker.state(115) == CLOSED


@given(st.lists(st.sampled_from([True, False, None])))
def test_it_is_open_if_and_only_if_the_last_words_were_failures(words: list[bool | None]) -> None:
    breaker = Breaker(BOUNDS)
    for word in words:
        call(breaker, failed=word)
    told = [word for word in words if word is not None]
    assert (breaker.state(100) == OPEN) == (len(told) >= 3 and all(told[-3:]))
