"""What the laws of the queues share: a new queue of every plug, and as many connections to it as a test wants."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from penstock import plugs
from penstock.core.ports import Queue
from penstock.outbound import HttpClient
from tests.laws.queues.amazon import make_queue

ROOT = Path(__file__).parents[3]
ENDPOINT = os.environ.get("PENSTOCK_TEST_SQS_ENDPOINT", "")
TRIES = 5
"""Deliveries after which a message is put aside: SQLite's own number, and in the redrive policy of SQS queues here."""


@pytest.fixture(scope="session")
def moto() -> Iterator[Callable[[], str]]:
    """The address of moto's SQS, started when somebody first asks; or of another, at ``PENSTOCK_TEST_SQS_ENDPOINT``."""
    started: list[subprocess.Popen[str]] = []

    @cache
    def address() -> str:
        if ENDPOINT:
            return ENDPOINT
        command = [sys.executable, "-m", "tests.laws.stores.moto_server", "sqs"]
        started.append(subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert started[0].stdout is not None
        return started[0].stdout.readline().strip()

    yield address
    for server in started:
        server.kill()
        server.communicate()


@pytest.fixture(params=plugs.names("queues"))
def place(request: pytest.FixtureRequest, tmp_path: Path, moto: Callable[[], str]) -> str:
    """The address of a new, empty queue. A plug that nobody listed is reached at ``PENSTOCK_TEST_<NAME>_QUEUE``."""
    name = f"laws-{uuid.uuid4().hex[:12]}"
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/queue.db"
    if request.param.startswith("sqs"):
        return make_queue(moto(), name, tries=TRIES, urgent=request.param == "sqs-urgent")
    variable = f"PENSTOCK_TEST_{request.param.upper()}_QUEUE"
    url = os.environ.get(variable)
    assert url, f"the queue plug {request.param!r} has no place to be tested at: set {variable}, or add one here"
    return url.replace("{}", name)


@pytest.fixture
async def connect(place: str) -> AsyncIterator[Callable[[], Queue]]:
    """Makes connections to one queue, each as another process would have it; they are open once awaited."""
    client = HttpClient()
    made: list[Queue] = []

    def connection() -> Queue:
        queue: Queue = plugs.load("queues", place.partition(":")[0]).connect(place, client)
        made.append(queue)
        return queue

    yield connection
    for queue in made:
        await queue.close()
    await client.aclose()


@pytest.fixture
async def queue(connect: Callable[[], Queue]) -> Queue:
    """An open queue, of each plug in turn."""
    queue = connect()
    await queue.open()
    return queue
