"""Laws of queues: nothing is lost, nobody shares a message, and what nobody can handle is put aside."""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import pytest

from penstock import plugs
from penstock.core.ports import Message, Queue
from penstock.errors import SettingsError, StateError
from penstock.outbound import HttpClient
from tests.laws.queues.conftest import ROOT, TRIES

LEASE = 30.0
SHORT = 1.0
"""The shortest lease that every queue knows: SQS counts in whole seconds."""
PATIENCE = 10.0
OPERATIONS = {name: member for name, member in vars(Queue).items() if inspect.iscoroutinefunction(member)}


async def received(queue: Queue, *, lease: float = LEASE) -> Message:
    """The next message, once there is one."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if found := await queue.receive(most=1, lease=lease):
                return found[0]
            await asyncio.sleep(0.02)


async def all_of(queue: Queue) -> list[str]:
    """Every job whose message is to be had now, each message done."""
    found = []
    while messages := await queue.receive(most=10, lease=LEASE):
        for message in messages:
            found.append(message.job_id)
            await queue.done(message)
    return found


async def test_what_is_sent_is_received(queue: Queue) -> None:
    await queue.send("job_1")
    message = await received(queue)
    assert (message.job_id, message.receives) == ("job_1", 1)


async def test_an_empty_queue_gives_nothing(queue: Queue) -> None:
    assert await queue.receive(most=10, lease=LEASE) == []


async def test_a_message_under_lease_is_nobody_elses(queue: Queue, connect: Callable[[], Queue]) -> None:
    other = connect()
    await other.open()
    await queue.send("job_1")
    await received(queue)
    assert await other.receive(most=10, lease=LEASE) == []
    assert await queue.receive(most=10, lease=LEASE) == []


async def test_a_lease_that_runs_out_gives_the_message_back(queue: Queue, connect: Callable[[], Queue]) -> None:
    other = connect()
    await other.open()
    await queue.send("job_1")
    await received(queue, lease=SHORT)
    again = await received(other)
    assert (again.job_id, again.receives) == ("job_1", 2)


async def test_what_is_done_never_comes_again(queue: Queue) -> None:
    await queue.send("job_1")
    await queue.done(await received(queue, lease=SHORT))
    began = time.monotonic()
    while time.monotonic() - began < SHORT * 1.5:
        assert await queue.receive(most=1, lease=LEASE) == []
        await asyncio.sleep(0.1)


async def test_what_is_released_comes_again_at_once(queue: Queue) -> None:
    await queue.send("job_1")
    await queue.release(await received(queue))
    assert (await received(queue)).receives == 2


@pytest.mark.parametrize("late", ["sent", "released"])
async def test_a_delay_is_kept(queue: Queue, late: str) -> None:
    await queue.send("job_1", delay=2 if late == "sent" else 0)
    if late == "released":
        await queue.release(await received(queue), delay=2)
    began = time.monotonic()
    assert await queue.receive(most=1, lease=LEASE) == []
    await received(queue)
    assert time.monotonic() - began > 0.9


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)  # SQS and its doubles take a receipt that is over
async def test_a_lease_that_is_over_gives_no_right_to_a_message(queue: Queue) -> None:
    await queue.send("job_1")
    first = await received(queue, lease=SHORT)
    second = await received(queue)
    await queue.release(first)
    assert await queue.receive(most=1, lease=LEASE) == []
    await queue.done(second)
    await queue.done(second)


async def test_as_many_come_at_once_as_are_wanted(queue: Queue) -> None:
    for number in range(5):
        await queue.send(f"job_{number}")
    assert len(await queue.receive(most=3, lease=LEASE)) <= 3


async def test_a_message_that_nobody_handles_is_put_aside(queue: Queue) -> None:
    await queue.send("job_poisoned")
    for receives in range(1, TRIES + 1):
        message = await received(queue)
        assert message.receives == receives
        await queue.release(message)
    await queue.send("job_good")
    assert (await received(queue)).job_id == "job_good"
    assert await queue.receive(most=10, lease=LEASE) == []


async def test_who_waits_is_told_as_soon_as_something_is_sent(queue: Queue, connect: Callable[[], Queue]) -> None:
    other = connect()
    await other.open()
    waiting = asyncio.ensure_future(other.receive(most=1, lease=LEASE, wait=5))
    await queue.send("job_1")
    assert [message.job_id for message in await waiting] == ["job_1"]


async def test_rivals_share_out_all_messages_and_none_twice(queue: Queue, connect: Callable[[], Queue]) -> None:
    sent = [f"job_{number}" for number in range(40)]
    await asyncio.gather(*map(queue.send, sent))
    rivals = [connect() for _ in range(4)]
    await asyncio.gather(*(rival.open() for rival in rivals))
    shares = await asyncio.gather(*map(all_of, rivals))
    assert sorted(job for share in shares for job in share) == sorted(sent)


async def test_a_receiver_that_dies_loses_nothing(place: str, queue: Queue) -> None:
    for number in range(3):
        await queue.send(f"job_{number}")
    program = f"""
import asyncio, os, signal
from penstock import plugs
from penstock.outbound import HttpClient
async def receive():
    queue = plugs.load("queues", {place.partition(":")[0]!r}).connect({place!r}, HttpClient())
    await queue.open()
    assert await queue.receive(most=2, lease={SHORT})
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(receive())
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "functions")}
    died = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", program], env=environment, check=False)
    assert died.returncode == -9
    jobs = set()
    for _ in range(3):
        message = await received(queue)
        jobs.add(message.job_id)
        await queue.done(message)
    assert jobs == {"job_0", "job_1", "job_2"}


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_higher_priorities_go_first_and_equals_in_turn(queue: Queue) -> None:
    for job, priority in (("low", -1), ("first", 0), ("second", 0), ("high", 5)):
        await queue.send(job, priority=priority)
    assert [message.job_id for message in await queue.receive(most=10, lease=LEASE)] == [
        *("high", "first", "second", "low")
    ]


@pytest.mark.parametrize("place", ["sqs-urgent"], indirect=True)
async def test_what_is_urgent_waits_behind_nothing_and_keeps_nothing_waiting(queue: Queue) -> None:
    for job, priority in (("low", -1), ("usual", 0), ("high", 5)):
        await queue.send(job, priority=priority)
    [first] = await queue.receive(most=1, lease=LEASE)
    assert first.job_id == "high"
    await queue.release(first)
    found = await queue.receive(most=10, lease=LEASE)
    assert found[0].job_id == "high"
    assert {message.job_id for message in found} == {"low", "usual", "high"}
    for message in found:
        await queue.done(message)
    assert await queue.receive(most=10, lease=LEASE) == []


@pytest.mark.parametrize("plug", plugs.names("queues"))
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_takes_and_answers_what_the_shape_says(plug: str, operation: str) -> None:
    module = plugs.load("queues", plug)
    kind = inspect.signature(module.connect, eval_str=False).return_annotation
    member: Callable[..., Awaitable[object]] = getattr(getattr(module, kind), operation)
    assert inspect.signature(member) == inspect.signature(OPERATIONS[operation])


@pytest.mark.parametrize("plug", plugs.names("queues"))
def test_a_url_that_names_no_queue_is_refused_with_the_settings_name(plug: str) -> None:
    connect = plugs.load("queues", plug).connect
    for url in (f"{plug}:", f"{plug}://", f"{plug}:///?x=1", "other://place", ""):
        with pytest.raises(SettingsError, match="PENSTOCK_QUEUE_URL"):
            connect(url, None)


async def test_a_queue_that_cannot_be_reached_is_a_state_error() -> None:
    client = HttpClient()
    queue = plugs.load("queues", "sqs").connect("sqs://x/1/jobs?endpoint=http://127.0.0.1:1", client)
    with pytest.raises(StateError, match="SendMessage"):
        await queue.send("job_1")
    await client.aclose()


async def test_a_queue_that_does_not_exist_is_named_with_what_sqs_says(moto: Callable[[], str]) -> None:
    client = HttpClient()
    url = f"sqs://x/123456789012/nobodys?endpoint={moto()}&region=eu-west-1"
    with pytest.raises(StateError, match=r"nobodys failed: QueueDoesNotExist|NonExistentQueue"):
        await plugs.load("queues", "sqs").connect(url, client).send("job_1")
    await client.aclose()
