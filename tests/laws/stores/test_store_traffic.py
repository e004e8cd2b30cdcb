"""Laws of what a store sums up of the newest outcomes."""

from __future__ import annotations

import pytest

from penstock.core.ports import Store
from penstock.schema.outcome import REFUSED, Failure, Usage
from penstock.schema.traffic import Stretch, Traffic
from tests.laws.stores.records import NOW, an_outcome

LIMIT = 1000


def rounded(traffic: Traffic) -> list[tuple[object, ...]]:
    """What is told of each place, without the dust of sums of floats."""
    return [
        (each.provider, each.model, each.requests, each.failed, each.refused, round(each.seconds, 6))
        for each in traffic.stretches
    ]


async def test_nothing_sums_up_to_nothing(store: Store) -> None:
    assert await store.sum_traffic(since=NOW - 60, until=NOW, limit=LIMIT) == Traffic(NOW - 60, NOW, 0, 0, 0.0)


async def test_outcomes_are_summed_up_by_the_place_that_was_tried(store: Store) -> None:
    one = an_outcome(deployment="a/big", model="big", duration=1.0, ttft=0.25, usage=Usage(10, 20, 5), cost_nanos=10**9)
    two = an_outcome(deployment="a/big", model="big", duration=3.0, ttft=0.75, usage=Usage(1, 2), cost_nanos=5 * 10**8)
    other = an_outcome(deployment="b/small", model="small", duration=0.5, usage=Usage(7, 0))
    await store.record_outcomes([one, two, other])
    assert await store.sum_traffic(since=NOW, until=NOW + 1, limit=LIMIT) == Traffic(
        NOW,
        NOW + 1,
        requests=3,
        failed=0,
        seconds=4.5,
        stretches=(
            Stretch("a", "big", 2, 0, 0, 4.0, 2, 1.0, 11, 22, 1.5),
            Stretch("b", "small", 1, 0, 0, 0.5, 0, 0.0, 7, 0, 0.0),
        ),
    )


async def test_a_place_that_another_stood_in_for_has_failed(store: Store) -> None:
    failures = (Failure("a/m", "upstream_timeout", 2.0), Failure("b/m", "upstream_busy", 0.5))
    await store.record_outcomes([an_outcome(deployment="c/m", model="m", duration=3.0, failures=failures)])
    traffic = await store.sum_traffic(since=NOW, until=NOW + 1, limit=LIMIT)
    assert (traffic.requests, traffic.failed) == (1, 0)
    assert rounded(traffic) == [("a", "m", 1, 1, 0, 2.0), ("b", "m", 1, 1, 0, 0.5), ("c", "m", 1, 0, 0, 0.5)]


async def test_the_last_attempt_of_a_request_that_failed_counts_once(store: Store) -> None:
    failures = (Failure("a/m", "upstream_timeout", 1.0), Failure("b/m", "upstream_unavailable", 1.0))
    lost = {"ended": "failed", "status": 503, "model": "m", "duration": 2.0}
    await store.record_outcomes([an_outcome(deployment="b/m", failures=failures, **lost)])
    await store.record_outcomes([an_outcome(deployment="", **lost)])
    traffic = await store.sum_traffic(since=NOW, until=NOW + 1, limit=LIMIT)
    assert (traffic.requests, traffic.failed) == (2, 2)
    assert rounded(traffic) == [("a", "m", 1, 1, 0, 1.0), ("b", "m", 1, 1, 0, 1.0)]


async def test_a_request_that_is_wrong_in_itself_is_no_failure_of_the_place_that_says_so(store: Store) -> None:
    refused = {"ended": "failed", "status": 400, "failures": (Failure("a/m", REFUSED, 0.25),)}
    left = {"ended": "cancelled", "status": 499}
    await store.record_outcomes([an_outcome(deployment="a/m", model="m", **each) for each in (refused, left)])
    traffic = await store.sum_traffic(since=NOW, until=NOW + 1, limit=LIMIT)
    assert rounded(traffic) == [("a", "m", 2, 0, 1, 0.5)]


async def test_what_began_before_or_after_is_left_out(store: Store) -> None:
    await store.record_outcomes([an_outcome(started_at=NOW + number) for number in range(5)])
    traffic = await store.sum_traffic(since=NOW + 1, until=NOW + 3, limit=LIMIT)
    assert (traffic.since, traffic.until, traffic.requests) == (NOW + 1, NOW + 3, 2)


@pytest.mark.parametrize("limit", [8, 40])
async def test_where_there_is_more_than_may_be_read_the_newest_part_is_told_of_whole(store: Store, limit: int) -> None:
    outcomes = [an_outcome(started_at=NOW + number) for number in range(100)]
    await store.record_outcomes(outcomes)
    traffic = await store.sum_traffic(since=NOW, until=NOW + 100, limit=limit)
    assert NOW < traffic.since < NOW + 100
    assert traffic.requests == sum(outcome.started_at >= traffic.since for outcome in outcomes) <= limit
    assert traffic.requests > 0


async def test_an_outcome_is_listed_with_its_failures(store: Store) -> None:
    outcome = an_outcome(failures=(Failure("a/m", "upstream_timeout", 0.125), Failure("b/m", REFUSED, 1.5)))
    await store.record_outcomes([outcome])
    assert await store.list_outcomes() == [outcome]
