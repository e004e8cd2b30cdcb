"""Laws of rivalry: what sixteen processes try at once happens once."""

from __future__ import annotations

from collections import Counter

import pytest

from penstock.core.ports import Store
from penstock.schema.job import COMPLETED, PROCESSING
from tests.laws.stores.arena import RIVALS
from tests.laws.stores.conftest import Race
from tests.laws.stores.places import Place
from tests.laws.stores.records import NOW, a_delivery, a_job, a_key


@pytest.fixture
def place(shared_place: Place) -> Place:
    """Where the rivals are, so that ``store`` sees what they did."""
    return shared_place


def test_sixteen_processes_open_a_new_store_at_once(race: Race) -> None:
    assert race("open_at_once") == [True] * RIVALS


async def test_of_sixteen_keys_with_one_hash_exactly_one_is_created(race: Race, store: Store) -> None:
    winners = [winner for winner in race("create_one_hash") if winner]
    assert len(winners) == 1
    assert [key.id for key in await store.list_keys()] == winners


async def test_of_sixteen_keys_with_one_id_exactly_one_is_created(race: Race, store: Store) -> None:
    winners = [winner for winner in race("create_one_id") if winner]
    assert len(winners) == 1
    assert [key.sha256 for key in await store.list_keys()] == winners


async def test_of_sixteen_revocations_one_counts_and_all_are_told_the_same_time(race: Race, store: Store) -> None:
    key = a_key(id="key_1")
    await store.create_key(key)
    told = set(race("revoke_one_key"))
    found = await store.find_key(key.sha256)
    assert found is not None
    assert told == {found.revoked_at}


async def test_no_change_of_a_key_is_lost(race: Race, store: Store) -> None:
    await store.create_key(a_key(id="key_1"))
    race("change_one_key", "2")
    key = await store.read_key("key_1")
    assert key is not None
    assert (key.priority, key.revision) == (2 * RIVALS, 2 * RIVALS + 1)


async def test_of_sixteen_jobs_with_one_id_exactly_one_is_created(race: Race, store: Store) -> None:
    won = race("create_one_job", "job_1")
    assert won.count(True) == 1
    job = await store.find_job("job_1")
    assert job is not None
    assert job.key_id == f"key_{won.index(True)}"


async def test_of_sixteen_runners_exactly_one_claims_a_job(race: Race, store: Store) -> None:
    await store.create_job(a_job(id="job_1"))
    winners = [runner for runner in race("claim_one_job", "job_1") if runner]
    job = await store.find_job("job_1")
    assert job is not None
    assert [(job.runner, job.status, job.attempts)] == [(winner, PROCESSING, 1) for winner in winners]


async def test_of_sixteen_runners_exactly_one_takes_over_a_lease_that_ran_out(race: Race, store: Store) -> None:
    await store.create_job(a_job(id="job_1"))
    await store.claim_job("job_1", "runner-gone", now=NOW, lease=30)
    winners = [runner for runner in race("claim_one_job", "job_1") if runner]
    job = await store.find_job("job_1")
    assert job is not None
    assert [(job.runner, job.status, job.attempts)] == [(winner, PROCESSING, 2) for winner in winners]


async def test_of_sixteen_results_exactly_one_is_written(race: Race, store: Store) -> None:
    await store.create_job(a_job(id="job_1"))
    await store.claim_job("job_1", "runner", now=NOW, lease=30)
    written = [result for result in race("finish_one_job", "job_1") if result]
    job = await store.find_job("job_1")
    assert job is not None
    assert [(job.status, job.result.decode())] == [(COMPLETED, result) for result in written]


async def test_no_version_of_the_registry_is_lost_or_doubled(race: Race, store: Store) -> None:
    versions = sorted(version for mine in race("publish_versions") for version in mine)
    assert versions == list(range(1, 2 * RIVALS + 1))
    registry = await store.load_registry()
    assert registry.version == 2 * RIVALS
    assert sorted(card.id for card in registry.cards) == sorted(
        f"model-{me}-{number}" for me in range(RIVALS) for number in range(2)
    )


async def test_an_outcome_that_sixteen_processes_record_counts_once(race: Race, store: Store) -> None:
    assert sum(race("record_one_outcome")) == 1
    assert [outcome.request_id for outcome in await store.list_outcomes()] == ["req_1"]


async def test_a_batch_that_sixteen_processes_record_is_in_the_ledger_once(race: Race, store: Store) -> None:
    new = race("record_one_batch")
    assert sum(new) >= 30 + 10 * RIVALS
    listed = Counter(outcome.request_id for outcome in await store.list_outcomes(limit=1000))
    assert listed.total() == len(listed) == 30 + 10 * RIVALS


async def test_sixteen_processes_that_write_without_rest_never_fail_each_other(
    race: Race, store: Store, shared_place: Place
) -> None:
    rounds = 30 if shared_place.plug == "sqlite" else 2  # doubles of DynamoDB are slow
    assert race("write_without_rest", str(rounds)) == [10 * rounds] * RIVALS
    assert len(await store.list_outcomes(limit=10_000)) == 10 * rounds * RIVALS


def test_of_sixteen_who_take_a_duty_one_has_it(race: Race) -> None:
    assert Counter(race("take_one_duty", "health")) == {True: 1, False: RIVALS - 1}


async def test_of_sixteen_who_take_over_a_duty_one_has_it(race: Race, store: Store) -> None:
    await store.take_duty("health", "before", now=NOW - 60, until=NOW)
    assert Counter(race("take_one_duty", "health")) == {True: 1, False: RIVALS - 1}


async def test_of_sixteen_who_write_one_rules_watch_none_undoes_anothers(race: Race, store: Store) -> None:
    assert sorted(race("revise_one_watch", "slow")) == list(range(1, RIVALS + 1))
    found = await store.find_watch("slow")
    assert found is not None
    assert (found.revision, found.told_at) == (RIVALS, float(RIVALS))


async def test_of_sixteen_who_add_a_webhook_each_none_undoes_anothers(race: Race, store: Store) -> None:
    assert sorted(race("add_one_webhook", "key_1")) == list(range(1, RIVALS + 1))
    assert {webhook.id for webhook in (await store.load_webhooks("key_1")).each} == {f"wh_{me}" for me in range(RIVALS)}


async def test_of_sixteen_deliveries_with_one_id_exactly_one_is_created(race: Race, store: Store) -> None:
    won = race("create_one_delivery", "dlv_1")
    assert won.count(True) == 1
    delivery = await store.find_delivery("dlv_1")
    assert delivery is not None
    assert delivery.message_id == f"msg_{won.index(True)}"


async def test_of_sixteen_claims_of_a_delivery_one_is_granted(race: Race, store: Store) -> None:
    await store.create_delivery(a_delivery(id="dlv_1"))
    winners = [winner for winner in race("claim_one_delivery", "dlv_1") if winner]
    delivery = await store.find_delivery("dlv_1")
    assert delivery is not None
    assert winners == [delivery.sender]
