"""The breaker: when it opens, what it refuses, and how one probe at a time finds out that the store is back."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from penstock.errors import StateConflict, StateError, UpstreamTimeout
from penstock.stores._breaker import (
    CALLS,
    CLOSED,
    HALF_OPEN,
    IS_OPEN,
    LONGEST,
    OPEN,
    OPENED,
    PAUSE,
    THRESHOLD,
    Answered,
    Breaker,
    Turn,
)
from tests.unit.memory import Clock

AWAY = StateError("the disk is gone")


class Store:
    """Calls through a breaker whose clock stands still."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.breaker = Breaker("tested", self.clock.monotonic)

    def call(self, error: BaseException | None = None) -> None:
        """One call from its beginning to its end."""
        with self.breaker.turn():
            if error is not None:
                raise error

    def fail(self, times: int = 1) -> None:
        """Calls that the store does not answer."""
        for _ in range(times):
            with pytest.raises(StateError, match=r"^the disk is gone$"):
                self.call(AWAY)

    def refusal(self) -> StateError:
        """What a call is told that is not let through."""
        with pytest.raises(StateError) as refused:
            self.call()
        return refused.value


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def opened(store: Store) -> Store:
    store.fail(THRESHOLD)
    return store


def test_five_failures_in_a_row_open_it(store: Store) -> None:
    store.fail(THRESHOLD - 1)
    assert store.breaker.state == CLOSED
    store.fail()
    assert store.breaker.state == OPEN


@pytest.mark.parametrize("answer", [None, StateConflict("somebody was first"), Answered("too big")], ids=repr)
def test_any_answer_of_the_stores_ends_the_row(store: Store, answer: StateError | None) -> None:
    store.fail(THRESHOLD - 1)
    try:
        store.call(answer)
    except StateError:
        assert answer is not None
    store.fail(THRESHOLD - 1)
    assert store.breaker.state == CLOSED


def test_refusals_of_single_calls_never_open_it(store: Store) -> None:
    for _ in range(10 * THRESHOLD):
        with pytest.raises(Answered):
            store.call(Answered("this value cannot be held"))
    assert store.breaker.state == CLOSED


def test_while_it_is_open_calls_fail_at_once_and_name_the_cause(opened: Store) -> None:
    opened.clock.now += 0.5
    refused = opened.refusal()
    assert str(refused) == "the disk is gone (the store failed 5 times in a row and is tried again in 1.5 s)"
    assert refused.retry_after == pytest.approx(1.5)
    assert refused.public, "callers are not told the cause"


def test_one_probe_goes_through_after_two_seconds_and_its_success_closes_it(opened: Store) -> None:
    opened.clock.now += PAUSE
    with opened.breaker.turn():
        assert opened.breaker.state == HALF_OPEN
        assert "is being tried again now" in str(opened.refusal())
    assert opened.breaker.state == CLOSED
    opened.call()
    opened.fail(THRESHOLD - 1)
    assert opened.breaker.state == CLOSED, "the row begins anew"


def test_a_probe_that_fails_doubles_the_pause_up_to_thirty_seconds(opened: Store) -> None:
    for pause in (2, 4, 8, 16, 30, 30):
        opened.clock.now += pause - 0.001
        opened.refusal()
        opened.clock.now += 0.001
        opened.fail()
    opened.clock.now += LONGEST
    opened.call()
    opened.fail(THRESHOLD)
    opened.clock.now += PAUSE
    opened.call()
    assert opened.breaker.state == CLOSED, "after a success the pauses begin anew"


@pytest.mark.parametrize("ending", [asyncio.CancelledError(), KeyError("nobody foresaw")], ids=repr)
def test_a_probe_that_tells_nothing_lets_the_next_call_be_the_probe(opened: Store, ending: BaseException) -> None:
    opened.clock.now += PAUSE
    with pytest.raises(type(ending)):
        opened.call(ending)
    assert opened.breaker.state == OPEN
    opened.call()
    assert opened.breaker.state == CLOSED


def test_calls_that_are_cancelled_neither_open_it_nor_end_the_row(store: Store) -> None:
    store.fail(THRESHOLD - 1)
    for _ in range(THRESHOLD):
        with pytest.raises(asyncio.CancelledError):
            store.call(asyncio.CancelledError())
    assert store.breaker.state == CLOSED
    store.fail()
    assert store.breaker.state == OPEN


def test_what_began_before_tells_nothing_afterwards(store: Store) -> None:
    turns = [store.breaker.turn() for _ in range(3)]
    store.fail(THRESHOLD)
    turns[0].__exit__(None, None, None)
    assert store.breaker.state == OPEN
    store.clock.now += PAUSE
    with store.breaker.turn():
        turns[1].__exit__(StateError, AWAY, None)
        assert store.breaker.state == HALF_OPEN
    turns[2].__exit__(StateError, AWAY, None)
    store.fail(THRESHOLD - 1)
    assert store.breaker.state == CLOSED


def test_it_warns_once_when_it_opens_and_tells_once_when_it_closes(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    store.fail(THRESHOLD)
    for pause in (2, 4):
        store.clock.now += pause
        store.fail()
    store.clock.now += 8
    store.call()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "the store is away, so calls to it fail at once until it answers: the disk is gone"),
        ("INFO", "the store answers again"),
    ]


def test_calls_are_counted_by_how_they_ended() -> None:
    store = Store()
    late = StateError("it did not answer within 2 s")
    late.__cause__ = TimeoutError()
    slow = StateError("no answer")
    slow.__cause__ = UpstreamTimeout("took too long")
    before = {result: CALLS.values[("tested", result)] for result in RESULTS}
    opened = OPENED.values[("tested",)]
    for error in (None, StateConflict("no"), late, slow, AWAY, Answered("no"), asyncio.CancelledError(), None):
        with suppress(StateError, asyncio.CancelledError):
            store.call(error)
    assert IS_OPEN.values[("tested",)] == 0
    store.fail(THRESHOLD)
    store.refusal()
    assert IS_OPEN.values[("tested",)] == 1
    assert OPENED.values[("tested",)] == opened + 1
    store.clock.now += PAUSE
    store.fail()
    assert OPENED.values[("tested",)] == opened + 1, "a probe that fails is the same bad day"
    assert {result: CALLS.values[("tested", result)] - before[result] for result in RESULTS} == {
        "ok": 2,
        "conflict": 1,
        "timeout": 2,
        "failed": 2 + THRESHOLD + 1,
        "refused_by_breaker": 1,
    }


RESULTS = ("ok", "conflict", "timeout", "failed", "refused_by_breaker")


class Interleavings(RuleBasedStateMachine):
    """Calls that begin and end in any order, at any time."""

    running = Bundle("running")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = Breaker("tested", self.clock.monotonic)
        self.probe: Turn | None = None
        self.refused_since = self.clock.now

    @rule(target=running)
    def begin(self) -> Turn | None:
        """Let through when closed, or alone once the pause is over; refused otherwise."""
        state = self.breaker.state
        try:
            turn = self.breaker.turn()
        except StateError:
            assert state != CLOSED
            assert state == HALF_OPEN or self.clock.now - self.refused_since < LONGEST
            return None
        if state != CLOSED:
            assert state == OPEN
            assert self.breaker.state == HALF_OPEN
            assert self.probe is None, "one probe at a time"
            self.probe = turn
        return turn

    @rule(turn=consumes(running), error=st.sampled_from([None, AWAY, StateConflict("no"), asyncio.CancelledError()]))
    def end(self, turn: Turn | None, error: BaseException | None) -> None:
        """Only the probe's end moves a breaker that is not closed."""
        if turn is None:
            return
        before = self.breaker.state
        turn.__exit__(type(error) if error else None, error, None)
        if turn is self.probe:
            self.probe = None
            away = error is AWAY or isinstance(error, asyncio.CancelledError)
            assert self.breaker.state == (OPEN if away else CLOSED)
        elif before != CLOSED:
            assert self.breaker.state == before
        if before != self.breaker.state:
            self.refused_since = self.clock.now

    @rule(seconds=st.floats(0, 40))
    def wait(self, seconds: float) -> None:
        """Time goes on."""
        self.clock.now += seconds

    @invariant()
    def half_open_means_that_a_probe_is_under_way(self) -> None:
        """So no end of any call leaves it half open for ever."""
        assert (self.breaker.state == HALF_OPEN) == (self.probe is not None)


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
