"""Laws of what streamed jobs say: each run has its own numbers, and nothing is lost, repeated or mixed."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.core.ports import Store
from tests.laws.stores.records import LATER, NOW, a_job

FEW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PAYLOADS = st.lists(st.binary(max_size=40).map(lambda payload: payload.replace(b"\n", b" ")), min_size=1, max_size=5)


async def everything(store: Store, job_id: str, run: int, after: int = 0) -> list[bytes]:
    """What a run has said after a number, read to the end."""
    found: list[bytes] = []
    while said := await store.read_chunks(job_id, run, after=after + len(found)):
        found += said
    return found


@FEW
@given(batches=st.lists(PAYLOADS, max_size=4))
async def test_what_was_said_is_read_from_any_number_on(store: Store, batches: list[list[bytes]]) -> None:
    job, said = a_job().id, [payload for batch in batches for payload in batch]
    first = 1
    for batch in batches:
        await store.append_chunks(job, 1, first, batch, expires=LATER)
        first += len(batch)
    for after in range(len(said) + 2):
        assert await everything(store, job, 1, after) == said[after:]


async def test_a_batch_that_is_written_again_is_read_once(store: Store) -> None:
    job = a_job().id
    for batch in ([b"a", b"b"], [b"a", b"b"], [b"a", b"b", b"c"]):
        await store.append_chunks(job, 1, 1, batch, expires=LATER)
    assert await everything(store, job, 1) == [b"a", b"b", b"c"]
    assert await everything(store, job, 1, 1) == [b"b", b"c"]


async def test_who_was_succeeded_writes_nothing_into_the_run_of_its_successor(store: Store) -> None:
    job = a_job().id
    await store.append_chunks(job, 1, 1, [b"old"], expires=LATER)
    await store.append_chunks(job, 2, 1, [b"new"], expires=LATER)
    await store.append_chunks(job, 1, 2, [b"late"], expires=LATER)
    await store.append_chunks(job, 11, 1, [b"another"], expires=LATER)
    assert await everything(store, job, 2) == [b"new"]
    assert await everything(store, job, 1) == [b"old", b"late"]


async def test_jobs_say_nothing_in_each_other_s_place(store: Store) -> None:
    one, other = a_job().id, a_job().id
    await store.append_chunks(one, 1, 1, [b"mine"], expires=LATER)
    assert await store.read_chunks(other, 1, after=0) == []


async def test_what_follows_a_gap_is_not_told(store: Store) -> None:
    job = a_job().id
    await store.append_chunks(job, 1, 1, [b"a"], expires=LATER)
    await store.append_chunks(job, 1, 4, [b"d"], expires=LATER)
    assert await everything(store, job, 1) == [b"a"]


async def test_a_long_story_is_read_in_pages(store: Store) -> None:
    job = a_job().id
    for number in range(1, 151):
        await store.append_chunks(job, 1, number, [b"%d" % number], expires=LATER)
    assert await everything(store, job, 1) == [b"%d" % number for number in range(1, 151)]


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_what_a_job_said_is_forgotten_with_it(store: Store) -> None:
    job = a_job().id
    await store.append_chunks(job, 1, 1, [b"gone"], expires=NOW + 60)
    await store.append_chunks(job, 1, 2, [b"kept"], expires=NOW + 90)
    await store.prune_jobs(NOW + 60)
    assert await everything(store, job, 1, 1) == [b"kept"]
    assert await everything(store, job, 1) == []
