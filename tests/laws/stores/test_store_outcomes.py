"""Laws of the outcome ledger in a store."""

from __future__ import annotations

from dataclasses import replace

import pytest

from penstock.core.ports import Store
from penstock.schema.outcome import Usage
from tests.laws.stores.records import NOW, an_outcome


async def test_an_outcome_is_listed_as_it_was_recorded(store: Store) -> None:
    outcome = an_outcome(code="upstream_timeout", ended="failed", status=504, stream=True, attempts=3, ttft=0.125)
    assert await store.record_outcomes([outcome]) == 1
    assert await store.list_outcomes() == [outcome]


async def test_recording_nothing_is_no_work(store: Store) -> None:
    assert await store.record_outcomes([]) == 0
    assert await store.list_outcomes() == []


@pytest.mark.parametrize("size", [2, 25, 26, 130])
async def test_a_batch_of_any_size_is_recorded_whole(store: Store, size: int) -> None:
    outcomes = [an_outcome(started_at=NOW + number) for number in range(size)]
    assert await store.record_outcomes(outcomes) == size
    assert await store.list_outcomes(limit=1000) == outcomes[::-1]


@pytest.mark.parametrize("size", [1, 2, 130])
async def test_a_repeated_batch_changes_nothing_and_counts_nothing(store: Store, size: int) -> None:
    outcomes = [an_outcome(started_at=NOW + number) for number in range(size)]
    await store.record_outcomes(outcomes)
    assert await store.record_outcomes(outcomes) == 0
    assert await store.list_outcomes(limit=1000) == outcomes[::-1]


@pytest.mark.parametrize("beside", [0, 3])
async def test_the_first_outcome_of_a_request_stays(store: Store, beside: int) -> None:
    first = an_outcome()
    await store.record_outcomes([first])
    second = replace(first, started_at=NOW + 5, duration=9.0, usage=Usage(1, 1, 1))
    others = [an_outcome(started_at=NOW - 1 - number) for number in range(beside)]
    assert await store.record_outcomes([second, *others]) == beside
    assert await store.list_outcomes() == [first, *others]


async def test_a_request_that_stands_twice_in_a_batch_counts_once(store: Store) -> None:
    first = an_outcome()
    assert await store.record_outcomes([first, replace(first, status=500), an_outcome(started_at=NOW - 1)]) == 2
    assert (await store.list_outcomes())[0] == first


async def test_only_what_is_new_in_a_batch_counts(store: Store) -> None:
    known, fresh = an_outcome(), an_outcome(started_at=NOW + 1)
    await store.record_outcomes([known])
    assert await store.record_outcomes([known, fresh]) == 1
    assert await store.list_outcomes() == [fresh, known]


async def test_the_newest_come_first_and_no_more_than_were_asked_for(store: Store) -> None:
    outcomes = [an_outcome(started_at=NOW + number % 7 + number / 100) for number in range(40)]
    await store.record_outcomes(outcomes)
    newest = sorted(outcomes, key=lambda outcome: outcome.started_at, reverse=True)
    assert await store.list_outcomes(limit=5) == newest[:5]
    assert await store.list_outcomes(limit=40) == newest
    assert await store.list_outcomes(limit=1) == newest[:1]
    assert await store.list_outcomes(limit=0) == []


async def test_a_listing_begins_at_the_moment_asked_for(store: Store) -> None:
    outcomes = [an_outcome(started_at=NOW + number) for number in range(5)]
    await store.record_outcomes(outcomes)
    assert await store.list_outcomes(since=NOW + 3) == [outcomes[4], outcomes[3]]
    assert await store.list_outcomes(since=NOW + 3.5) == [outcomes[4]]
    assert await store.list_outcomes(since=NOW + 4.5) == []


async def test_a_key_sees_its_own_outcomes_alone(store: Store) -> None:
    outcomes = [an_outcome(key_id=f"key_{number % 3}", started_at=NOW + number) for number in range(30)]
    await store.record_outcomes(outcomes)
    mine = [outcome for outcome in outcomes if outcome.key_id == "key_1"][::-1]
    assert await store.list_outcomes(key_id="key_1") == mine
    assert await store.list_outcomes(key_id="key_1", limit=4) == mine[:4]
    assert await store.list_outcomes(key_id="key_1", since=mine[2].started_at) == mine[:3]
    assert await store.list_outcomes(key_id="key") == []


async def test_pruning_takes_the_old_where_the_store_does_not_forget_by_itself(store: Store) -> None:
    old, new = an_outcome(started_at=NOW - 10), an_outcome(started_at=NOW)
    await store.record_outcomes([old, new])
    assert await store.prune_outcomes(NOW) in (0, 1)
    assert await store.list_outcomes(since=NOW) == [new]
    assert await store.prune_outcomes(NOW) == 0
