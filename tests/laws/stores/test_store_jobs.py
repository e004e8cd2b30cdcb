"""Laws of jobs in a store."""

from __future__ import annotations

from dataclasses import replace

import pytest

from penstock.core.ports import Store
from penstock.errors import StateConflict
from penstock.schema.job import COMPLETED, FAILED, PROCESSING
from tests.laws.stores.records import NOW, a_job

LEASE = 30.0


async def test_a_job_is_found_as_it_was_created(store: Store) -> None:
    job = a_job(body=b'{"prompt":"\xc3\xa4\\u0000"}' + bytes(range(256)))
    await store.create_job(job)
    assert await store.find_job(job.id) == job
    assert await store.find_job("job_nobody") is None


async def test_an_id_is_taken_once(store: Store) -> None:
    job = a_job()
    await store.create_job(job)
    with pytest.raises(StateConflict, match=job.id):
        await store.create_job(replace(job, body=b"{}"))
    assert await store.find_job(job.id) == job


async def test_a_queued_job_is_claimed_for_the_length_of_a_lease(store: Store) -> None:
    job = a_job()
    await store.create_job(job)
    claimed = await store.claim_job(job.id, "runner-1", now=NOW, lease=LEASE)
    assert claimed == replace(job, status=PROCESSING, runner="runner-1", lease_until=NOW + LEASE, attempts=1)
    assert await store.find_job(job.id) == claimed


@pytest.mark.parametrize("runner", ["runner-1", "runner-2"])
async def test_a_job_under_lease_is_not_to_be_had(store: Store, runner: str) -> None:
    job = a_job()
    await store.create_job(job)
    claimed = await store.claim_job(job.id, "runner-1", now=NOW, lease=LEASE)
    assert await store.claim_job(job.id, runner, now=NOW + LEASE - 0.5, lease=LEASE) is None
    assert await store.find_job(job.id) == claimed


async def test_a_job_whose_lease_ran_out_is_taken_over(store: Store) -> None:
    job = a_job()
    await store.create_job(job)
    await store.claim_job(job.id, "runner-1", now=NOW, lease=LEASE)
    taken = await store.claim_job(job.id, "runner-2", now=NOW + LEASE, lease=LEASE)
    assert taken is not None
    assert (taken.runner, taken.lease_until, taken.attempts) == ("runner-2", NOW + 2 * LEASE, 2)


async def test_a_job_that_does_not_exist_is_neither_claimed_nor_finished(store: Store) -> None:
    assert await store.claim_job("job_nobody", "runner-1", now=NOW, lease=LEASE) is None
    assert not await store.finish_job("job_nobody", "runner-1", now=NOW, result=b"{}")
    assert await store.find_job("job_nobody") is None


async def test_a_result_completes_a_job(store: Store) -> None:
    job = a_job()
    await store.create_job(job)
    claimed = await store.claim_job(job.id, "runner-1", now=NOW, lease=LEASE)
    assert claimed is not None
    assert await store.finish_job(job.id, "runner-1", now=NOW + 5, result=b'{"ok":true}')
    ended = replace(claimed, status=COMPLETED, result=b'{"ok":true}', finished_at=NOW + 5)
    assert await store.find_job(job.id) == ended


async def test_an_error_fails_a_job(store: Store) -> None:
    job = a_job()
    await store.create_job(job)
    await store.claim_job(job.id, "runner-1", now=NOW, lease=LEASE)
    assert await store.finish_job(job.id, "runner-1", now=NOW + 5, error="the model is gone")
    ended = await store.find_job(job.id)
    assert ended is not None
    assert (ended.status, ended.error, ended.result) == (FAILED, "the model is gone", b"")


async def test_a_job_ends_once(store: Store) -> None:
    job = a_job()
    await store.create_job(job)
    await store.claim_job(job.id, "runner-1", now=NOW, lease=LEASE)
    assert await store.finish_job(job.id, "runner-1", now=NOW + 5, result=b"first")
    ended = await store.find_job(job.id)
    assert not await store.finish_job(job.id, "runner-1", now=NOW + 6, result=b"second")
    assert not await store.finish_job(job.id, "runner-1", now=NOW + 6, error="third")
    assert await store.find_job(job.id) == ended


async def test_a_job_that_ended_is_never_claimed_again(store: Store) -> None:
    job = a_job()
    await store.create_job(job)
    await store.claim_job(job.id, "runner-1", now=NOW, lease=LEASE)
    await store.finish_job(job.id, "runner-1", now=NOW + 5, result=b"{}")
    assert await store.claim_job(job.id, "runner-2", now=NOW + 10 * LEASE, lease=LEASE) is None


async def test_a_queued_job_cannot_be_finished_by_anybody(store: Store) -> None:
    job = a_job()
    await store.create_job(job)
    assert not await store.finish_job(job.id, "", now=NOW, result=b"{}")
    assert not await store.finish_job(job.id, "runner-1", now=NOW, result=b"{}")
    assert await store.find_job(job.id) == job


async def test_a_runner_that_lost_its_job_cannot_finish_it(store: Store) -> None:
    job = a_job()
    await store.create_job(job)
    await store.claim_job(job.id, "runner-1", now=NOW, lease=LEASE)
    taken = await store.claim_job(job.id, "runner-2", now=NOW + LEASE, lease=LEASE)
    assert not await store.finish_job(job.id, "runner-1", now=NOW + LEASE + 1, result=b"late")
    assert await store.find_job(job.id) == taken
    assert await store.finish_job(job.id, "runner-2", now=NOW + LEASE + 2, result=b"good")


async def test_a_runner_whose_lease_ran_out_may_finish_what_nobody_took_over(store: Store) -> None:
    job = a_job()
    await store.create_job(job)
    await store.claim_job(job.id, "runner-1", now=NOW, lease=LEASE)
    assert await store.finish_job(job.id, "runner-1", now=NOW + 2 * LEASE, result=b"{}")
