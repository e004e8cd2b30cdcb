"""Following a job: from any place, in its own process and in others, through the death of a runner."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from penstock.core.jobs import following, recording
from penstock.core.jobs.bulk import Bulk
from penstock.core.jobs.following import Began, Ended, Event, Follower, Place, Said
from penstock.core.jobs.recording import Channels, Recording
from penstock.core.sse import DONE
from penstock.errors import InvalidRequest, NotFound, StateError
from penstock.schema.job import COMPLETED, Job
from penstock.stores import sqlite
from penstock.stores.sqlite import SqliteStore
from tests.laws.stores.records import LATER, NOW, a_job

WORDS = [b"%d" % number for number in range(1, 11)]


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_LOOK", "LONGEST_LOOK", "NEXT_LOOK", "STATUS"):
        monkeypatch.setattr(following, name, 0.002)
    monkeypatch.setattr(recording, "AGAIN", 0.002)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = sqlite.connect(f"sqlite:///{tmp_path}/state.db", None)
    await store.open()
    yield store
    await store.close()


class Run:
    """One run of a job in a process of its own."""

    def __init__(self, store: SqliteStore, job: Job, channels: Channels) -> None:
        self.store, self.job, self.channels = store, job, channels
        self.recording = Recording(store, channels.of(job.id), job, expires=LATER)

    async def end(self) -> None:
        """Say that it is whole, and complete the job."""
        await self.recording.end()
        assert await self.store.finish_job(self.job.id, self.job.runner, now=time.time(), expires=LATER, result=b"{}")


async def begin(store: SqliteStore, job: Job, runner: str = "one", now: float = NOW) -> Run:
    """Claim a job in a new process."""
    claimed = await store.claim_job(job.id, runner, now=now, lease=30)
    assert claimed is not None
    return Run(store, claimed, Channels())


async def made(store: SqliteStore) -> Job:
    """A new streamed job."""
    job = a_job(streamed=True)
    await store.create_job(job)
    return job


def following_in(store: SqliteStore, run: Run | None = None) -> Follower:
    """A follower in the process of a run, or in another one."""
    return Follower(store, run.channels if run else Channels(), Bulk(None, 0))


async def read(follower: Follower, job: Job, after: Place | None = None) -> list[Event]:
    """Everything that a reader is told."""
    async with asyncio.timeout(10):
        return [event async for event in follower.follow(job, after)]


def words(events: list[Event]) -> list[bytes]:
    """What was said, in order; each batch must begin where the one before it ended."""
    said = [event for event in events if isinstance(event, Said)]
    for one, next_one in pairwise(said):
        assert next_one.run != one.run or next_one.first == one.first + len(one.payloads)
    return [payload for event in said for payload in event.payloads]


@pytest.mark.parametrize("here", [True, False], ids=["in its process", "elsewhere"])
async def test_a_reader_is_told_everything_once_while_it_is_said(store: SqliteStore, here: bool) -> None:
    run = await begin(store, await made(store))
    follower = following_in(store, run if here else None)
    with run.recording:
        reading = asyncio.ensure_future(read(follower, run.job))
        for word in WORDS:
            run.recording.say([word])
            await asyncio.sleep(0)
        await run.end()
    events = await reading
    assert events[0] == Began(1, anew=False)
    assert words(events) == WORDS
    assert isinstance(events[-1], Ended)
    assert (events[-1].job.status, events[-1].whole) == (COMPLETED, True)


@pytest.mark.parametrize("here", [True, False], ids=["in its process", "elsewhere"])
async def test_a_reader_who_comes_back_goes_on_where_he_was(store: SqliteStore, here: bool) -> None:
    run = await begin(store, await made(store))
    follower = following_in(store, run if here else None)
    with run.recording:
        run.recording.say(WORDS[:6])
        readings = [
            asyncio.ensure_future(read(follower, run.job, Place(1, number))) for number in range(len(WORDS) + 1)
        ]
        await asyncio.sleep(0)
        run.recording.say(WORDS[6:])
        await run.end()
    for number, reading in enumerate(readings):
        events = await reading
        assert words(events) == WORDS[number:]
        assert isinstance(events[-1], Ended)
        assert events[-1].whole


async def test_after_the_end_everything_is_told_again_from_anywhere(store: SqliteStore) -> None:
    run = await begin(store, await made(store))
    with run.recording:
        run.recording.say(WORDS)
        await run.end()
    job = await store.find_job(run.job.id)
    assert job is not None
    for number in range(len(WORDS) + 2):
        events = await read(following_in(store), job, Place(1, number))
        assert words(events) == WORDS[number:]
        assert events[-1] == Ended(job, whole=True)
    assert await read(following_in(store), job, Place(1, 99)) == [Ended(job, whole=False)]


@pytest.mark.parametrize("here", [True, False], ids=["in its process", "elsewhere"])
async def test_a_reader_learns_that_what_he_read_is_void(store: SqliteStore, here: bool) -> None:
    dead = await begin(store, await made(store))
    dead.recording.say(WORDS[:5])
    await dead.recording.give_up()
    next_run = await begin(store, dead.job, "two", now=NOW + 60)
    follower = following_in(store, next_run if here else None)
    reading = asyncio.ensure_future(read(follower, dead.job, Place(1, 3)))
    with next_run.recording:
        next_run.recording.say(WORDS)
        dead.recording.say([b"late"])
        await dead.recording.give_up()
        await next_run.end()
    events = await reading
    anew = events.index(Began(2, anew=True))
    assert words(events[anew:]) == WORDS


async def test_a_job_that_waits_begins_before_its_reader_s_eyes(store: SqliteStore) -> None:
    job = await made(store)
    reading = asyncio.ensure_future(read(following_in(store), job))
    run = await begin(store, job)
    with run.recording:
        run.recording.say(WORDS)
        await run.end()
    assert words(await reading) == WORDS


async def test_after_a_failure_the_reader_has_what_was_said_before_it(store: SqliteStore) -> None:
    run = await begin(store, await made(store))
    with run.recording:
        run.recording.say(WORDS)
        await run.recording.give_up()
        await store.finish_job(run.job.id, "one", now=NOW, expires=LATER, error="broken")
    events = await read(following_in(store), run.job)
    assert words(events) == WORDS
    assert isinstance(events[-1], Ended)
    assert (events[-1].job.error, events[-1].whole) == ("broken", False)


async def test_a_job_that_is_not_streamed_has_an_end_alone(store: SqliteStore) -> None:
    job = a_job()
    await store.create_job(job)
    reading = asyncio.ensure_future(read(following_in(store), job))
    run = await begin(store, job)
    with run.recording:
        await run.end()
    began, ended = await reading
    assert began == Began(1, anew=False)
    assert isinstance(ended, Ended)
    assert not ended.whole


async def test_a_store_that_is_away_for_a_while_loses_nothing(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await begin(store, await made(store))
    tried = asyncio.Event()

    async def away(*_: object, **__: object) -> None:
        tried.set()
        raise StateError("away")

    with run.recording:
        with monkeypatch.context() as patch:
            patch.setattr(SqliteStore, "append_chunks", away)
            run.recording.say(WORDS[:5])
            await asyncio.wait_for(tried.wait(), 5)
            run.recording.say(WORDS[5:])
        await run.end()
    assert words(await read(following_in(store), run.job)) == WORDS


async def test_rows_are_few_however_many_tokens_there_are(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    append = SqliteStore.append_chunks

    async def counted(self: SqliteStore, *args: object, **kwargs: object) -> None:
        rows.append(len(args[3]))  # type: ignore[arg-type]
        await append(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(SqliteStore, "append_chunks", counted)
    run = await begin(store, await made(store))
    began = time.monotonic()
    with run.recording:
        for number in range(300):
            run.recording.say([b"%d" % number])
            await asyncio.sleep(0.001)
        await run.end()
    seconds = time.monotonic() - began
    assert sum(rows) == 301
    assert rows[0] <= 2, "the first token waits for no other"
    assert len(rows) <= 7 + seconds / recording.PACE


async def test_a_row_has_a_size(store: SqliteStore) -> None:
    run = await begin(store, await made(store))
    with run.recording:
        run.recording.say([b"x" * 20_000] * 4)
        await run.end()
    assert await store.read_chunks(run.job.id, 1, after=3) == [b"x" * 20_000, DONE]
    assert len(await store.read_chunks(run.job.id, 1, after=0)) == 5


async def test_a_job_that_was_forgotten_is_told_so(store: SqliteStore) -> None:
    with pytest.raises(NotFound):
        await read(following_in(store), a_job(streamed=True))


@pytest.mark.parametrize("text", ["", "1", "x-1", "1-x", "-1-1", "1-1-1", "1--1", "٣-١", "1-1234567890", "1 - 1"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="Last-Event-ID"):
        Place.read(text)


def test_a_place_is_read_as_it_was_written() -> None:
    assert Place.read(str(Place(3, 141))) == Place(3, 141)


async def test_a_run_that_never_was_is_refused(store: SqliteStore) -> None:
    run = await begin(store, await made(store))
    for place in (Place(2, 1), Place(0, 0)):
        with pytest.raises(InvalidRequest, match="no run"):
            await read(following_in(store, run), replace(run.job), place)
