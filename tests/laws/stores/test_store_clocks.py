"""Laws of time: a clock that jumps back brings nothing back."""

from __future__ import annotations

from penstock.core.ports import Store
from penstock.schema.job import COMPLETED
from tests.laws.stores.records import LATER, NOW, a_job, a_key

JUMP = 86400.0
LEASE = 30.0


async def test_a_clock_that_jumps_back_resurrects_no_revoked_key(store: Store) -> None:
    key = a_key(created_at=NOW - 2 * JUMP)
    await store.create_key(key)
    await store.revoke_key(key.id, NOW)
    again = await store.revoke_key(key.id, NOW - JUMP)
    assert again is not None
    assert again.revoked_at == NOW
    found = await store.find_key(key.sha256)
    assert found is not None
    assert not found.active(NOW - JUMP)


async def test_a_clock_that_jumps_back_resurrects_no_lease(store: Store) -> None:
    job = a_job()
    await store.create_job(job)
    await store.claim_job(job.id, "runner-1", now=NOW, lease=LEASE)
    taken = await store.claim_job(job.id, "runner-2", now=NOW + LEASE, lease=LEASE)
    assert not await store.finish_job(job.id, "runner-1", now=NOW + 1, expires=LATER, result=b"late")
    assert await store.claim_job(job.id, "runner-1", now=NOW + 1, lease=LEASE) is None
    assert await store.find_job(job.id) == taken


async def test_a_clock_that_jumps_back_gives_nobody_a_job_that_is_under_lease(store: Store) -> None:
    job = a_job()
    await store.create_job(job)
    await store.claim_job(job.id, "runner-1", now=NOW, lease=LEASE)
    assert await store.claim_job(job.id, "runner-2", now=NOW - JUMP, lease=LEASE) is None
    assert await store.finish_job(job.id, "runner-1", now=NOW - JUMP, expires=LATER, result=b"{}")


async def test_a_clock_that_jumps_back_reopens_no_job_that_ended(store: Store) -> None:
    job = a_job()
    await store.create_job(job)
    await store.claim_job(job.id, "runner-1", now=NOW, lease=LEASE)
    await store.finish_job(job.id, "runner-1", now=NOW + 1, expires=LATER, result=b"{}")
    assert await store.claim_job(job.id, "runner-2", now=NOW - JUMP, lease=LEASE) is None
    assert not await store.finish_job(job.id, "runner-1", now=NOW - JUMP, expires=LATER, error="no")
    ended = await store.find_job(job.id)
    assert ended is not None
    assert (ended.status, ended.finished_at) == (COMPLETED, NOW + 1)


async def test_the_registry_goes_forward_whatever_the_clock_does(store: Store) -> None:
    await store.publish_registry([], expected=0, at=NOW)
    later = await store.publish_registry([], expected=1, at=NOW - JUMP)
    assert (later.version, later.refreshed_at) == (2, NOW - JUMP)
    assert await store.load_registry() == later
