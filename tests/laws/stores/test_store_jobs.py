"""Laws of jobs in a store."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from typing import Any

import pytest

from penstock.core.ports import Store
from penstock.errors import StateConflict
from penstock.schema.job import CANCELLED, COMPLETED, FAILED, PROCESSING, QUEUED, DueJob
from tests.laws.stores.records import LATER, NOW, a_job

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


@pytest.mark.parametrize("change", [{}, {"status": "failed"}, {"claims": 7}, {"lease_until": NOW + 1}])
async def test_a_job_is_replaced_only_as_it_was_seen(store: Store, change: dict[str, Any]) -> None:
    job = a_job(status="completed", result=b'{"old":1}', lease_until=NOW, finished_at=NOW)
    await store.create_job(job)
    another = a_job(id=job.id, claims=1, body=b'{"new":1}', due_at=NOW)
    assert await store.replace_job(another, seen=replace(job, **change)) == (not change)
    assert await store.find_job(job.id) == (job if change else another)
    assert await store.due_jobs(NOW, limit=10) == ([] if change else [DueJob(job.id, NOW, another.created_at, 0)])


async def test_one_of_many_replaces_a_job(store: Store) -> None:
    job = a_job(status="failed")
    await store.create_job(job)
    rivals = [a_job(id=job.id, claims=1, runner=f"runner-{number}") for number in range(8)]
    won = await asyncio.gather(*(store.replace_job(rival, seen=job) for rival in rivals))
    assert sum(won) == 1
    assert await store.find_job(job.id) == rivals[won.index(True)]


async def test_nothing_is_put_where_no_job_is(store: Store) -> None:
    assert not await store.replace_job(a_job(claims=1), seen=a_job())


async def test_a_queued_job_is_claimed_for_the_length_of_a_lease(store: Store) -> None:
    job = a_job()
    await store.create_job(job)
    claimed = await store.claim_job(job.id, "runner-1", now=NOW, lease=LEASE)
    held = {"runner": "runner-1", "lease_until": NOW + LEASE, "due_at": NOW + LEASE, "started_at": NOW}
    assert claimed == replace(job, status=PROCESSING, attempts=1, claims=1, **held)
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
    assert taken.started_at == NOW


async def test_every_claim_counts_also_of_a_try_that_was_given_back_unbegun(store: Store) -> None:
    job = a_job()
    await store.create_job(job)
    await store.claim_job(job.id, "runner-1", now=NOW, lease=LEASE)
    await store.release_job(job.id, "runner-1", due_at=NOW, failed=False)
    taken = await store.claim_job(job.id, "runner-1", now=NOW + 1, lease=LEASE)
    assert taken is not None
    assert (taken.attempts, taken.claims, taken.started_at) == (1, 2, NOW + 1)


async def test_a_job_that_does_not_exist_is_neither_claimed_nor_finished(store: Store) -> None:
    assert await store.claim_job("job_nobody", "runner-1", now=NOW, lease=LEASE) is None
    assert not await store.finish_job("job_nobody", "runner-1", now=NOW, expires=LATER, result=b"{}")
    assert await store.find_job("job_nobody") is None


async def test_a_result_completes_a_job(store: Store) -> None:
    job = a_job()
    await store.create_job(job)
    claimed = await store.claim_job(job.id, "runner-1", now=NOW, lease=LEASE)
    assert claimed is not None
    assert await store.finish_job(job.id, "runner-1", now=NOW + 5, expires=LATER, result=b'{"ok":true}')
    end = {"status": COMPLETED, "finished_at": NOW + 5, "expires_at": LATER, "due_at": None, "body": b""}
    ended = replace(claimed, result=b'{"ok":true}', **end)
    assert await store.find_job(job.id) == ended


async def test_an_error_fails_a_job(store: Store) -> None:
    job = a_job()
    await store.create_job(job)
    await store.claim_job(job.id, "runner-1", now=NOW, lease=LEASE)
    assert await store.finish_job(job.id, "runner-1", now=NOW + 5, expires=LATER, error="the model is gone")
    ended = await store.find_job(job.id)
    assert ended is not None
    assert (ended.status, ended.error, ended.result) == (FAILED, "the model is gone", b"")


async def test_a_job_ends_once(store: Store) -> None:
    job = a_job()
    await store.create_job(job)
    await store.claim_job(job.id, "runner-1", now=NOW, lease=LEASE)
    assert await store.finish_job(job.id, "runner-1", now=NOW + 5, expires=LATER, result=b"first")
    ended = await store.find_job(job.id)
    assert not await store.finish_job(job.id, "runner-1", now=NOW + 6, expires=LATER, result=b"second")
    assert not await store.finish_job(job.id, "runner-1", now=NOW + 6, expires=LATER, error="third")
    assert await store.find_job(job.id) == ended


async def test_a_job_that_ended_is_never_claimed_again(store: Store) -> None:
    job = a_job()
    await store.create_job(job)
    await store.claim_job(job.id, "runner-1", now=NOW, lease=LEASE)
    await store.finish_job(job.id, "runner-1", now=NOW + 5, expires=LATER, result=b"{}")
    assert await store.claim_job(job.id, "runner-2", now=NOW + 10 * LEASE, lease=LEASE) is None


async def test_a_queued_job_cannot_be_finished_by_anybody(store: Store) -> None:
    job = a_job()
    await store.create_job(job)
    assert not await store.finish_job(job.id, "", now=NOW, expires=LATER, result=b"{}")
    assert not await store.finish_job(job.id, "runner-1", now=NOW, expires=LATER, result=b"{}")
    assert await store.find_job(job.id) == job


async def test_a_runner_that_lost_its_job_cannot_finish_it(store: Store) -> None:
    job = a_job()
    await store.create_job(job)
    await store.claim_job(job.id, "runner-1", now=NOW, lease=LEASE)
    taken = await store.claim_job(job.id, "runner-2", now=NOW + LEASE, lease=LEASE)
    assert not await store.finish_job(job.id, "runner-1", now=NOW + LEASE + 1, expires=LATER, result=b"late")
    assert await store.find_job(job.id) == taken
    assert await store.finish_job(job.id, "runner-2", now=NOW + LEASE + 2, expires=LATER, result=b"good")


async def test_a_runner_whose_lease_ran_out_may_finish_what_nobody_took_over(store: Store) -> None:
    job = a_job()
    await store.create_job(job)
    await store.claim_job(job.id, "runner-1", now=NOW, lease=LEASE)
    assert await store.finish_job(job.id, "runner-1", now=NOW + 2 * LEASE, expires=LATER, result=b"{}")


async def test_a_lease_that_is_renewed_goes_on(store: Store) -> None:
    job = a_job()
    await store.create_job(job)
    await store.claim_job(job.id, "runner-1", now=NOW, lease=LEASE)
    assert await store.renew_job(job.id, "runner-1", now=NOW + 20, lease=LEASE)
    assert await store.claim_job(job.id, "runner-2", now=NOW + LEASE + 1, lease=LEASE) is None
    renewed = await store.find_job(job.id)
    assert renewed is not None
    assert (renewed.lease_until, renewed.due_at, renewed.attempts) == (NOW + 20 + LEASE, NOW + 20 + LEASE, 1)


async def test_only_who_holds_a_job_renews_or_releases_it(store: Store) -> None:
    job = a_job()
    await store.create_job(job)
    assert not await store.renew_job(job.id, "", now=NOW, lease=LEASE)
    held = await store.claim_job(job.id, "runner-1", now=NOW, lease=LEASE)
    assert not await store.renew_job(job.id, "runner-2", now=NOW, lease=LEASE)
    assert not await store.release_job(job.id, "runner-2", due_at=NOW, failed=True)
    assert not await store.renew_job("job_nobody", "runner-1", now=NOW, lease=LEASE)
    assert await store.find_job(job.id) == held


@pytest.mark.parametrize(("failed", "attempts", "failures"), [(True, 1, 1), (False, 0, 0)])
async def test_a_released_job_is_queued_again(store: Store, failed: bool, attempts: int, failures: int) -> None:
    job = a_job()
    await store.create_job(job)
    await store.claim_job(job.id, "runner-1", now=NOW, lease=LEASE)
    assert await store.release_job(job.id, "runner-1", due_at=NOW + 7, failed=failed)
    started_at = NOW if failed else None
    again = replace(job, due_at=NOW + 7, attempts=attempts, failures=failures, claims=1, started_at=started_at)
    assert await store.find_job(job.id) == again
    taken = await store.claim_job(job.id, "runner-2", now=NOW + 1, lease=LEASE)
    assert taken is not None
    assert taken.started_at == (NOW if failed else NOW + 1)


@pytest.mark.parametrize("state", [QUEUED, PROCESSING])
async def test_an_open_job_is_cancelled_and_stays_so(store: Store, state: str) -> None:
    job = a_job(due_at=NOW)
    await store.create_job(job)
    if state == PROCESSING:
        await store.claim_job(job.id, "runner-1", now=NOW, lease=LEASE)
    assert await store.cancel_job(job.id, now=NOW + 1, expires=LATER)
    ended = await store.find_job(job.id)
    assert ended is not None
    assert (ended.status, ended.finished_at, ended.body, ended.due_at) == (CANCELLED, NOW + 1, b"", None)
    assert not await store.renew_job(job.id, "runner-1", now=NOW + 2, lease=LEASE)
    assert not await store.finish_job(job.id, "runner-1", now=NOW + 2, expires=LATER, result=b"{}")
    assert await store.claim_job(job.id, "runner-2", now=NOW + 10 * LEASE, lease=LEASE) is None
    assert not await store.cancel_job(job.id, now=NOW + 3, expires=LATER)
    assert await store.find_job(job.id) == ended


async def test_what_ended_is_not_cancelled(store: Store) -> None:
    job = a_job()
    await store.create_job(job)
    await store.claim_job(job.id, "runner-1", now=NOW, lease=LEASE)
    await store.finish_job(job.id, "runner-1", now=NOW + 5, expires=LATER, result=b"{}")
    assert not await store.cancel_job(job.id, now=NOW + 6, expires=LATER)
    assert not await store.cancel_job("job_nobody", now=NOW, expires=LATER)


async def test_open_jobs_whose_time_has_come_are_due_the_longest_overdue_first(store: Store) -> None:
    jobs = [a_job(due_at=NOW + number, priority=number) for number in range(8)]
    for job in reversed(jobs):
        await store.create_job(job)
    await store.create_job(a_job())
    due = await store.due_jobs(NOW + 5, limit=10)
    assert due == [DueJob(job.id, NOW + number, NOW, number) for number, job in enumerate(jobs[:6])]
    assert await store.due_jobs(NOW + 5, limit=3) == due[:3]
    assert await store.due_jobs(NOW - 1, limit=10) == []


async def test_a_job_is_due_again_when_its_lease_runs_out(store: Store) -> None:
    job = a_job(due_at=NOW)
    await store.create_job(job)
    await store.claim_job(job.id, "runner-1", now=NOW, lease=LEASE)
    assert await store.due_jobs(NOW + LEASE - 1, limit=10) == []
    assert [due.id for due in await store.due_jobs(NOW + LEASE, limit=10)] == [job.id]


async def test_a_job_that_ended_is_never_due(store: Store) -> None:
    for end in ("finished", "cancelled"):
        job = a_job(due_at=NOW)
        await store.create_job(job)
        await store.claim_job(job.id, "runner-1", now=NOW, lease=LEASE)
        if end == "finished":
            await store.finish_job(job.id, "runner-1", now=NOW, expires=LATER, result=b"{}")
        else:
            await store.cancel_job(job.id, now=NOW, expires=LATER)
    assert await store.due_jobs(NOW + 10 * LEASE, limit=10) == []


async def test_a_due_job_is_postponed_by_one_of_all_who_saw_it(store: Store) -> None:
    job = a_job(due_at=NOW)
    await store.create_job(job)
    assert await store.postpone_job(job.id, seen=NOW, due_at=NOW + 60)
    assert not await store.postpone_job(job.id, seen=NOW, due_at=NOW + 90)
    assert await store.due_jobs(NOW + 59, limit=10) == []
    assert len(await store.due_jobs(NOW + 60, limit=10)) == 1
    assert not await store.postpone_job("job_nobody", seen=NOW, due_at=NOW)


async def test_what_has_expired_is_forgotten_and_nothing_else(store: Store) -> None:
    gone, kept, always = a_job(expires_at=NOW + 60), a_job(expires_at=NOW + 90), a_job()
    for job in (gone, kept, always):
        await store.create_job(job)
    assert await store.prune_jobs(NOW + 60) in (0, 1), "0 where the backend forgets by itself"
    assert await store.find_job(kept.id) == kept
    assert await store.find_job(always.id) == always


async def test_jobs_that_wait_for_a_model_come_by_priority_and_then_by_age(store: Store) -> None:
    model = f"m-{uuid.uuid4().hex}"
    turns = [(5, 2), (5, 3), (0, 1), (-7, 0)]
    jobs = [a_job(model=model, priority=p, created_at=NOW + age, due_at=NOW + 60, parked=True) for p, age in turns]
    for job in reversed(jobs):
        await store.create_job(job)
    await store.create_job(a_job(model=model, priority=9, due_at=NOW))
    await store.create_job(a_job(model=f"{model}-other", due_at=NOW, parked=True))
    found = await store.parked_jobs(model, limit=10)
    assert found == [DueJob(job.id, NOW + 60, job.created_at, job.priority) for job in jobs]
    assert await store.parked_jobs(model, limit=2) == found[:2]
    assert len(await store.due_jobs(NOW + 60, limit=100)) >= len(jobs), "they are told again like any other"


@pytest.mark.parametrize("end", ["claimed", "cancelled", "given back"])
async def test_a_parked_job_waits_until_somebody_takes_it(store: Store, end: str) -> None:
    job = a_job(model=f"m-{uuid.uuid4().hex}", due_at=NOW)
    await store.create_job(job)
    await store.claim_job(job.id, "runner-1", now=NOW, lease=LEASE)
    assert not await store.release_job(job.id, "runner-2", due_at=NOW, failed=False, parked=True)
    assert await store.parked_jobs(job.model, limit=10) == []
    assert await store.release_job(job.id, "runner-1", due_at=NOW + 7, failed=False, parked=True)
    assert [waiting.id for waiting in await store.parked_jobs(job.model, limit=10)] == [job.id]
    if end == "cancelled":
        await store.cancel_job(job.id, now=NOW, expires=LATER)
    else:
        claimed = await store.claim_job(job.id, "runner-2", now=NOW, lease=LEASE)
        assert claimed is not None
        assert not claimed.parked
    if end == "given back":
        await store.release_job(job.id, "runner-2", due_at=NOW + 7, failed=False)
    assert await store.parked_jobs(job.model, limit=10) == []


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
async def test_an_end_that_is_to_be_told_stays_due_until_it_is(store: Store, end: str) -> None:
    job = a_job(due_at=NOW, notify=True)
    await store.create_job(job)
    if end == "cancelled":
        assert await store.cancel_job(job.id, now=NOW, expires=LATER, tell_at=NOW + 5)
    else:
        await store.claim_job(job.id, "runner-1", now=NOW, lease=LEASE)
        how = {"error": "no"} if end == "failed" else {"result": b"{}"}
        assert await store.finish_job(job.id, "runner-1", now=NOW, expires=LATER, tell_at=NOW + 5, **how)
    assert await store.due_jobs(NOW + 4, limit=10) == []
    assert await store.due_jobs(NOW + 5, limit=10) == [DueJob(job.id, NOW + 5, NOW, 0, end)]
    assert await store.postpone_job(job.id, seen=NOW + 5, due_at=NOW + 9)
    assert await store.told_job(job.id)
    assert await store.due_jobs(NOW + 99, limit=10) == []
    told = await store.find_job(job.id)
    assert told is not None
    assert (told.status, told.due_at, told.notify) == (end, None, False)
    assert not await store.told_job(job.id)


async def test_an_open_job_is_not_made_due_no_more(store: Store) -> None:
    job = a_job(due_at=NOW, notify=True)
    await store.create_job(job)
    assert not await store.told_job(job.id)
    assert not await store.told_job("job_nobody")
    assert await store.find_job(job.id) == job


async def test_an_end_that_was_not_told_is_not_forgotten(store: Store) -> None:
    job = a_job(due_at=NOW, notify=True)
    await store.create_job(job)
    await store.cancel_job(job.id, now=NOW, expires=NOW + 60, tell_at=NOW)
    await store.prune_jobs(NOW + 60)
    assert await store.find_job(job.id) is not None
    await store.told_job(job.id)
    assert await store.prune_jobs(NOW + 60) in (0, 1), "0 where the backend forgets by itself"
