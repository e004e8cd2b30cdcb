"""Laws of the sums over the ledger: they are what a plain sum over the outcomes says."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.core.ports import Store
from penstock.schema.outcome import CANCELLED, FAILED, OK, Outcome, Usage
from penstock.schema.usage import UsageLine
from tests.laws.stores.records import NOW, an_outcome

DAY = 86_400.0
MIDNIGHT = NOW - NOW % DAY
EVER = {"since": 0.0, "until": NOW + 365 * DAY}


def plainly(outcomes: Sequence[Outcome], since: float, until: float, key_id: str | None = None) -> list[UsageLine]:
    """The sums as somebody would write them who has the outcomes in a list."""
    sums: dict[tuple[str, ...], Counter[str]] = {}
    for outcome in {outcome.request_id: outcome for outcome in outcomes}.values():
        if since <= outcome.started_at < until and key_id in (None, outcome.key_id):
            day = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=math.floor(outcome.started_at))).date()
            group = (day.isoformat(), outcome.key_id, outcome.owner, outcome.model)
            sums.setdefault(group, Counter()).update(
                requests=1,
                failed=outcome.ended == FAILED,
                prompt_tokens=outcome.usage.prompt_tokens,
                cached_tokens=outcome.usage.cached_tokens,
                completion_tokens=outcome.usage.completion_tokens,
                cost_nanos=outcome.cost_nanos or 0,
                unpriced=outcome.cost_nanos is None,
            )
    return [UsageLine(*group, **counts) for group, counts in sorted(sums.items())]


moments = st.floats(MIDNIGHT - 2 * DAY, MIDNIGHT + 2 * DAY) | st.sampled_from(
    [MIDNIGHT, MIDNIGHT - DAY, math.nextafter(MIDNIGHT, 0), math.nextafter(MIDNIGHT, NOW)]
)
counts = st.integers(0, 10**12)
several = st.lists(
    st.builds(
        an_outcome,
        started_at=moments,
        key_id=st.sampled_from(["key_1", "key_2"]),
        owner=st.sampled_from(["ada", ""]),
        model=st.sampled_from(["tiny", "größer"]),
        ended=st.sampled_from([OK, FAILED, CANCELLED]),
        usage=st.builds(Usage, counts, counts, counts),
        cost_nanos=st.none() | st.integers(0, 2**62),
    ),
    max_size=30,
)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fresh=several, span=st.tuples(moments, moments), key_id=st.sampled_from([None, "key_1", "key_3"]))
async def test_the_sums_are_those_of_a_plain_sum(
    store: Store, fresh: list[Outcome], span: tuple[float, float], key_id: str | None
) -> None:
    await store.record_outcomes(fresh)
    held = await store.list_outcomes(limit=10_000)  # of the examples before this one, too
    since, until = span
    assert await store.sum_usage(since=since, until=until, key_id=key_id) == plainly(held, since, until, key_id)
    assert await store.sum_usage(**EVER) == plainly(held, **EVER)


async def test_an_empty_ledger_has_no_lines(store: Store) -> None:
    assert await store.sum_usage(**EVER) == []


async def test_outcomes_of_one_group_are_one_line(store: Store) -> None:
    outcomes = [
        an_outcome(usage=Usage(100, 10, 40), cost_nanos=5),
        an_outcome(usage=Usage(1, 2, 0), cost_nanos=None),
        an_outcome(ended=FAILED, usage=Usage(), cost_nanos=0),
        an_outcome(ended=CANCELLED, usage=Usage(5, 3, 0), cost_nanos=7),
    ]
    await store.record_outcomes(outcomes)
    day = datetime.fromtimestamp(NOW, UTC).strftime("%Y-%m-%d")
    assert await store.sum_usage(**EVER) == [
        UsageLine(
            day=day,
            key_id="key_1",
            owner="ada",
            model="tiny",
            requests=4,
            failed=1,
            prompt_tokens=106,
            cached_tokens=40,
            completion_tokens=15,
            cost_nanos=12,
            unpriced=1,
        )
    ]


async def test_a_day_begins_at_midnight_and_ends_before_the_next(store: Store) -> None:
    last, first = math.nextafter(MIDNIGHT, 0), MIDNIGHT
    await store.record_outcomes([an_outcome(started_at=last), an_outcome(started_at=first)])
    days = [line.day for line in await store.sum_usage(**EVER)]
    assert len(set(days)) == 2
    [today] = await store.sum_usage(since=MIDNIGHT, until=MIDNIGHT + DAY)
    [yesterday] = await store.sum_usage(since=MIDNIGHT - DAY, until=MIDNIGHT)
    assert [yesterday.day, today.day] == days
    assert yesterday.requests == today.requests == 1


async def test_a_repeated_outcome_counts_once(store: Store) -> None:
    outcome = an_outcome(cost_nanos=3)
    await store.record_outcomes([outcome])
    await store.record_outcomes([outcome, outcome, an_outcome(cost_nanos=4)])
    [line] = await store.sum_usage(**EVER)
    assert (line.requests, line.cost_nanos) == (2, 7)


async def test_money_is_summed_up_exactly_beyond_64_bits(store: Store) -> None:
    await store.record_outcomes([an_outcome(cost_nanos=2**62 + number) for number in range(5)])
    [line] = await store.sum_usage(**EVER)
    assert line.cost_nanos == 5 * 2**62 + 10


async def test_a_key_is_summed_up_alone(store: Store) -> None:
    await store.record_outcomes([an_outcome(key_id=f"key_{number % 3}", cost_nanos=number) for number in range(9)])
    [line] = await store.sum_usage(**EVER, key_id="key_1")
    assert (line.key_id, line.requests, line.cost_nanos) == ("key_1", 3, 1 + 4 + 7)
    assert await store.sum_usage(**EVER, key_id="key_9") == []


@pytest.mark.parametrize("seconds", [0, -1])
async def test_a_span_without_length_holds_nothing(store: Store, seconds: int) -> None:
    await store.record_outcomes([an_outcome(started_at=NOW)])
    assert await store.sum_usage(since=NOW, until=NOW + seconds) == []


async def test_many_outcomes_are_all_counted(store: Store) -> None:
    outcomes = [an_outcome(started_at=NOW - number // 3, cost_nanos=10**9) for number in range(400)]
    await store.record_outcomes(outcomes)
    assert await store.sum_usage(**EVER) == plainly(outcomes, **EVER)
