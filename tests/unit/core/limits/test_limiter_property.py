"""Limits under any interleaving of several processes' limiters over one store that fails before and after the fact.

What callers were granted stays within every limit in every window of time, exact and leased; what requests may cost
and have cost stays within the budget; and nothing is lost for good, whatever dies. ``PENSTOCK_TEST_LONG=1`` tells many
more and longer stories.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from penstock.core.limits.limiter import Limiter, Reservation
from penstock.core.limits.terms import Need, Plan
from penstock.errors import CallerError, StateError
from penstock.schema.key import Caller
from penstock.schema.limit import MINUTE, Budget, Limits
from penstock.schema.meter import SECOND, Claim, Settlement, Verdict
from penstock.schema.request import CHAT, EMBEDDINGS, Request
from tests.unit.core.limits.meters import AWAY, Clock, Meters

LONG = os.environ.get("PENSTOCK_TEST_LONG") == "1"
PROCESSES = 3
LIFE = 120.0

PLAN = Plan(
    gateway=Limits(requests_per_minute=6000, burst=48),
    endpoints={EMBEDDINGS: Limits(requests_per_minute=600, burst=8)},
    owners={"team": Limits(tokens_per_minute=6000)},
    owner_budgets={"team": Budget(total=60_000e-9, daily=40_000e-9)},
)
KEYS = {
    "exact": Caller("exact", limits=Limits(requests_per_minute=60, burst=3, concurrency=2), budget=Budget(total=3e-6)),
    "leased": Caller("leased", "team", limits=Limits(requests_per_minute=3000, burst=24), budget=Budget(total=2e-5)),
    "money": Caller("money", "team", budget=Budget(daily=5e-6)),
    "free": Caller("free"),
}
Counts = Callable[["Granted"], bool]
RATES: dict[str, tuple[int, int, Counts]] = {
    "gateway": (6000, 48, lambda granted: True),
    "embeddings": (600, 8, lambda granted: granted.request.endpoint == EMBEDDINGS),
    "exact": (60, 3, lambda granted: granted.request.caller.key_id == "exact"),
    "leased": (3000, 24, lambda granted: granted.request.caller.key_id == "leased"),
}
BUDGETS: dict[str, tuple[int, Counts]] = {
    "key#exact": (3000, lambda granted: granted.request.caller.key_id == "exact"),
    "key#leased": (20_000, lambda granted: granted.request.caller.key_id == "leased"),
    "key#money": (5000, lambda granted: granted.request.caller.key_id == "money"),
    "owner#team": (40_000, lambda granted: granted.request.caller.owner == "team"),
}


class TimeTravel(asyncio.SelectorEventLoop):
    """A loop whose timers follow a test's clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def time(self) -> float:
        return self._clock.mono / SECOND


@dataclass(eq=False)
class Parked:
    """A call that a process has made to the store, and that is to be answered."""

    kind: str
    answer: asyncio.Future[bool]
    since: int


@dataclass(eq=False)
class Granted:
    """A request that was let through, and what it came to once it has ended."""

    process: Process
    request: Request
    need: Need
    reservation: Reservation
    at: int
    cost: int | None = None


class Process:
    """A limiter, and a store whose every call waits until the story goes on with it."""

    def __init__(self, kept: Meters, clock: Clock) -> None:
        self.kept = kept
        self.clock = clock
        self.parked: list[Parked] = []
        self.tasks: dict[asyncio.Task[None], Request] = {}
        self.dead = False
        self.limiter = Limiter(self, PLAN, fail_open=False)  # type: ignore[arg-type]

    async def reserve(self, id: str, claims: Sequence[Claim], *, now: int, expires: int) -> Verdict:
        late = await self._wait("reserve")
        verdict = self.kept.reserve(id, claims, now, expires)
        if late:
            raise AWAY
        return verdict

    async def settle(self, settlements: Sequence[Settlement]) -> int:
        late = await self._wait("settle")
        ended = self.kept.settle(settlements)
        if late:
            raise AWAY
        return ended

    async def _wait(self, kind: str) -> bool:
        if self.dead:
            raise AWAY
        parked = Parked(kind, asyncio.get_running_loop().create_future(), self.clock.mono)
        self.parked.append(parked)
        try:
            return await parked.answer
        finally:
            self.parked.remove(parked)

    def go_on(self, parked: Parked, how: str) -> None:
        """The store answers, or fails before or after it did what it was asked."""
        if not parked.answer.done():
            if how == "before":
                parked.answer.set_exception(AWAY)
            else:
                parked.answer.set_result(how == "after")

    def die(self) -> None:
        """Whatever this process does from now on changes nothing."""
        self.dead = True
        for parked in list(self.parked):
            self.go_on(parked, "before")


class Stories(RuleBasedStateMachine):
    """Any story of three processes."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.clock = Clock()
        self.clock.put_before(self.patch)
        self.loop = TimeTravel(self.clock)
        self.failures: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.failures.append(context))
        self.kept = Meters()
        self.processes = [self.start() for _ in range(PROCESSES)]
        self.granted: list[Granted] = []
        self.slowest = self.number = 0
        self.lossless = True

    def start(self) -> Process:
        return Process(self.kept, self.clock)

    def let_run(self) -> None:
        async def wait() -> None:
            for _ in range(30):
                await asyncio.sleep(0)

        self.loop.run_until_complete(wait())

    @rule(
        number=st.integers(0, PROCESSES - 1),
        key=st.sampled_from(sorted(KEYS)),
        endpoint=st.sampled_from([CHAT, CHAT, EMBEDDINGS]),
        tokens=st.integers(0, 60),
        nanos=st.sampled_from([0, 100, 700, 2500]),
        times=st.sampled_from([1, 1, 1, 3, 12, 30]),
    )
    def ask(self, *, number: int, key: str, endpoint: str, tokens: int, nanos: int, times: int) -> None:
        """Requests come to a process."""
        process, need = self.processes[number], Need(tokens, nanos, 1)
        for _ in range(times):
            self.number += 1
            deadline = self.loop.time() + LIFE
            request = Request(f"req_{self.number}", endpoint, "m", {}, False, KEYS[key], deadline)
            process.tasks[self.loop.create_task(self.admit(process, request, need))] = request
        self.let_run()

    async def admit(self, process: Process, request: Request, need: Need) -> None:
        try:
            terms = process.limiter.terms(request)
            reservation = await process.limiter.reserve(request, terms, need)
        except (CallerError, StateError, asyncio.CancelledError):
            return
        if not process.dead:
            self.granted.append(Granted(process, request, need, reservation, self.clock.wall))

    @rule(
        number=st.integers(0, PROCESSES - 1),
        pick=st.integers(0, 99),
        how=st.sampled_from(["", "", "", "", "before", "after"]),
    )
    def the_store_answers(self, number: int, pick: int, how: str) -> None:
        process = self.processes[number]
        if process.parked:
            process.go_on(process.parked[pick % len(process.parked)], how)
            self.let_run()

    @rule(number=st.integers(0, PROCESSES - 1))
    def the_store_answers_all(self, number: int) -> None:
        self.serve([self.processes[number]])

    @rule(number=st.integers(0, PROCESSES - 1), pick=st.integers(0, 99))
    def a_caller_leaves(self, number: int, pick: int) -> None:
        """While his request is still being admitted, wherever it waits."""
        waiting = [task for task in self.processes[number].tasks if not task.done()]
        if waiting:
            waiting[pick % len(waiting)].cancel()
            self.let_run()

    @rule(pick=st.integers(0, 99), percent=st.integers(0, 100), times=st.sampled_from([1, 1, 5]), again=st.booleans())
    def requests_end(self, pick: int, percent: int, times: int, again: bool) -> None:
        running = [each for each in self.granted if each.cost is None and not each.process.dead]
        for each in running[pick % len(running) :][:times] if running else ():
            each.cost = each.need.nanos * percent // 100
            for _ in range(1 + again):
                self.loop.run_until_complete(self.settle(each, each.need.tokens * percent // 100))
        self.call_soon()

    async def settle(self, granted: Granted, tokens: int) -> None:
        granted.process.limiter.settle(granted.reservation, tokens=tokens, nanos=granted.cost or 0)

    @rule(seconds=st.sampled_from([0.001, 0.01, 0.05, 0.1, 0.25, 0.3, 1.0, 1.0, 4.0, 30.0]))
    def time_passes(self, seconds: float) -> None:
        for process in self.processes:
            for parked in process.parked:
                if parked.kind == "reserve":
                    self.slowest = max(self.slowest, self.clock.mono + round(seconds * SECOND) - parked.since)
        self.clock.go_on(seconds)
        self.call_soon()

    @rule(seconds=st.sampled_from([-1.0, 0.5, 60.0]))
    def the_clock_is_set(self, seconds: float) -> None:
        if not any(process.parked for process in self.processes):
            self.clock.wall += round(seconds * SECOND)

    @rule(number=st.integers(0, PROCESSES - 1), kindly=st.booleans())
    def a_process_ends(self, number: int, kindly: bool) -> None:
        """It closes when its requests have ended, or it dies in the middle of them; another takes its place."""
        process = self.processes[number]
        if kindly:
            self.close(process)
        else:
            self.lossless = self.lossless and not process.tasks
            process.die()
        self.let_run()
        self.processes[number] = self.start()

    @rule()
    def somebody_ends_what_has_expired(self) -> None:
        self.lossless = not self.kept.end_expired(self.clock.wall) and self.lossless

    @invariant()
    def no_rate_is_passed_in_any_window(self) -> None:
        for per_minute, burst, counts in RATES.values():
            interval = MINUTE // per_minute
            times = sorted(granted.at for granted in self.granted if counts(granted))
            for first, begin in enumerate(times):
                for last in range(first, len(times)):
                    room = burst * interval + times[last] - begin + self.slowest
                    assert (last - first + 1) * interval <= room

    @invariant()
    def no_budget_is_passed(self) -> None:
        for meter, (ceiling, counts) in BUDGETS.items():
            mine = [granted for granted in self.granted if counts(granted)]
            assert sum(each.need.nanos if each.cost is None else each.cost for each in mine) <= ceiling
            assert all(0 <= spent <= 60_000 for spent in self.kept.meter(meter).spent.values())

    @invariant()
    def no_slot_is_taken_twice(self) -> None:
        running = [each for each in self.granted if each.cost is None and not each.process.dead]
        alive = [each for each in running if self.loop.time() < each.request.deadline]
        assert sum(each.request.caller.key_id == "exact" for each in alive) <= 2

    @invariant()
    def nothing_fails_unseen(self) -> None:
        assert not self.failures

    def teardown(self) -> None:
        try:
            self.nothing_is_left()
        finally:
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.let_run()
            self.loop.close()
            self.patch.undo()

    def nothing_is_left(self) -> None:
        """Once all processes have ended, and what the dead ones held has expired."""
        for process in self.processes:
            self.close(process)
        self.clock.go_on(10 * LIFE)
        self.somebody_ends_what_has_expired()
        for name, meter in self.kept.meters.items():
            assert (name, meter.holds, meter.slots) == (name, {}, 0)
        self.counters_tell_what_was_spent()

    def counters_tell_what_was_spent(self) -> None:
        for meter, (_, counts) in BUDGETS.items():
            spent = sum(granted.cost or 0 for granted in self.granted if counts(granted))
            for counter in self.kept.meter(meter).spent.values():
                assert counter >= spent
                assert counter == spent or not self.lossless

    def close(self, process: Process) -> None:
        """Let its requests end, and everything be written."""
        self.serve([process])
        self.requests_of(process)
        closing = self.loop.create_task(process.limiter.close())
        for _ in range(1000):
            self.let_run()
            if closing.done():
                break
            self.serve([process])
        closing.result()
        process.die()

    def requests_of(self, process: Process) -> None:
        for task in process.tasks:
            task.cancel()
        self.let_run()
        for each in self.granted:
            if each.process is process and each.cost is None:
                each.cost = each.need.nanos // 2
                self.loop.run_until_complete(self.settle(each, each.need.tokens // 2))
        self.let_run()

    def serve(self, processes: list[Process]) -> None:
        for _ in range(1000):
            parked = [(process, call) for process in processes for call in process.parked]
            if not parked:
                return
            for process, call in parked:
                process.go_on(call, "")
            self.let_run()
        raise AssertionError("the store is asked without end")

    def call_soon(self) -> None:
        """Give the limiters' timers and tasks their turn."""
        self.let_run()


@pytest.mark.timeout(3600 if LONG else 120)
def test_any_story_keeps_every_limit_and_loses_nothing() -> None:
    run_state_machine_as_test(
        Stories,
        settings=settings(
            max_examples=20_000 if LONG else 100,
            stateful_step_count=80 if LONG else 40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate, Phase.shrink],
            database=None,
        ),
    )
