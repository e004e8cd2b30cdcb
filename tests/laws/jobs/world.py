"""A world in which processes submit jobs and run them, die, and are followed by others: on every kind of state."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from moto.sqs.models import sqs_backends

from penstock import plugs
from penstock.core.gateway import Gateway
from penstock.core.jobs import following, inplace, resender, runner, submission, usher
from penstock.core.jobs.bulk import Bulk
from penstock.core.jobs.consumer import Consumer
from penstock.core.jobs.recording import Channels
from penstock.core.json import to_json
from penstock.core.keys import Keyring
from penstock.core.limits.limiter import Limiter
from penstock.core.limits.terms import Plan
from penstock.core.metering import Ledger
from penstock.core.ports import Answer, Call, Objects, Queue, Reply, Store
from penstock.core.prices import Catalog
from penstock.core.registry import ModelRegistry
from penstock.core.routing.router import Router
from penstock.core.webhooks import announcer, courier
from penstock.core.webhooks.desk import furnish
from penstock.errors import PenstockError
from penstock.queues import sqlite as sqlite_queue
from penstock.schema.config import PriceRow
from penstock.schema.job import Job
from penstock.schema.key import Caller
from penstock.schema.limit import Budget, Limits
from penstock.schema.meter import SECOND
from penstock.schema.model import Deployment
from penstock.schema.request import CHAT, Request
from penstock.schema.secret import Secret
from penstock.schema.webhook import Webhook, Webhooks
from penstock.schema.webhook_section import WebhookSection
from tests.laws.jobs.mortal import Died, Life, Mortal
from tests.laws.stores.moto_in_process import Answer as Response
from tests.laws.stores.moto_in_process import InProcess

BODY = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 50}
COST = 7 * 1000 + 2 * 2000
"""Nano-dollars that an answer costs."""
BOUND = (len(to_json(BODY)) + 256) * 1000 + 50 * 2000
"""What is reserved for it, and counts as spent where nobody lived to settle it."""
PRICES = [PriceRow("paid", input=1.0, output=2.0)]
CALLER = Caller("configured")
PLAN = Plan(
    key=Limits(requests_per_minute=600, burst=100, tokens_per_minute=10**6, concurrency=1), key_budget=Budget(total=1.0)
)
USAGE = {"prompt_tokens": 7, "completion_tokens": 2}
PATIENCE = 20.0
TERMS = submission.Terms(attempts=20)


class Clock:
    """Stands in for the module ``time``: it goes on by itself, and further when a test says so."""

    ahead = 0.0

    def time(self) -> float:
        """Seconds since the epoch."""
        return time.time() + self.ahead

    def monotonic(self) -> float:
        """Seconds."""
        return time.monotonic() + self.ahead


class SqsInProcess(InProcess):
    """moto's SQS without a socket, which would hold up this process while it waits for messages."""

    service = "sqs"

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        deadline: float,
        connect_timeout: float = 5.0,
    ) -> Response:
        """Answer at once, and let others go on where one wanted to wait."""
        await asyncio.sleep(0.005)
        patient = b'"WaitTimeSeconds":10'
        return await super().request(
            method, url, headers=headers, body=body.replace(patient, b'"WaitTimeSeconds":0'), deadline=deadline
        )


class Provider:
    """Answers each call with another text, so that two answers of one job would be told apart."""

    def __init__(self, world: World, life: Life) -> None:
        self._world = world
        self._life = life

    async def stream(self, call: Call) -> AsyncGenerator[list[bytes], None]:
        """An answer in parts, unless the process dies in its midst."""
        self._world.answers += 1
        for part in ("ans", "wer ", str(self._world.answers)):
            self._life.step()
            choice: dict[str, Any] = {"index": 0, "delta": {"content": part}, "finish_reason": None}
            yield [json.dumps({"model": "m", "choices": [choice]}).encode()]
            await asyncio.sleep(0.002)
        choice = {"index": 0, "delta": {}, "finish_reason": "stop"}
        yield [json.dumps({"model": "m", "choices": [choice]}).encode()]
        yield [json.dumps({"model": "m", "choices": [], "usage": USAGE}).encode()]

    async def complete(self, call: Call) -> Answer:
        """A whole answer, unless the process dies while it waits for it."""
        self._life.step()
        self._world.answers += 1
        text = {"message": {"content": f"answer {self._world.answers}"}, "finish_reason": "stop"}
        document = {"model": "m", "choices": [text], "usage": USAGE}
        return Answer(json.dumps(document).encode(), document)


class Receiver:
    """Takes what webhooks are told, unless the process dies before it has told it, or has heard the answer."""

    def __init__(self, world: World, life: Life) -> None:
        self._world = world
        self._life = life

    async def post(self, url: str, headers: Sequence[tuple[str, str]], body: bytes, *, timeout: float) -> Reply:
        """Take one message, and say so."""
        self._life.step()
        self._world.received.append((dict(headers)["webhook-id"], json.loads(body)))
        self._life.step()
        return Reply(204)


class Process:
    """One process with the jobs' parts of a gateway, as ``bootstrap`` would put them together."""

    def __init__(self, world: World, life: Life) -> None:
        self.life = life
        store: Any = Mortal(world.store, life, world.saw)
        queue: Any = Mortal(world.queue, life, world.saw)
        objects: Any = Mortal(world.objects, life, world.saw) if world.objects is not None else None
        bulk = Bulk(objects, 0)
        registry = self.registry(store, Provider(world, life))
        self.ledger = Ledger(store)
        models = {model: Limits(concurrency=slots) for model, slots in world.rooms.items()}
        self.limiter = Limiter(store, replace(PLAN, models=models))
        self.gateway = gateway = Gateway(registry, Router(), self.ledger, self.limiter, Catalog(PRICES))
        keyring, channels = Keyring(store, {}), Channels()
        receiver: Any = Receiver(world, life)
        self.desk = furnish(store, receiver, keyring, WebhookSection())
        self.usher = usher.Usher(store, queue, world.rooms)
        parts: dict[str, Any] = {"bulk": bulk, "channels": channels, "announcer": self.desk.announcer}
        self.submissions = submission.Submissions(store, queue, gateway, TERMS, **parts)
        self.resender = resender.Resender(store, queue, self.desk.announcer)
        self.runner = runner.JobRunner(store, queue, gateway, keyring, TERMS, usher=self.usher, **parts)
        self.consumer = Consumer(queue, self.runner, concurrency=2, grace=PATIENCE)
        self.inplace = inplace.InPlace(gateway, self.submissions, self.runner, self.consumer)

    def registry(self, store: Any, provider: Any) -> ModelRegistry:
        """What models there are: one, at one provider."""
        return ModelRegistry(store, [Deployment("p", "m", "paid", "openai", "m", "http://x")], [], lambda _: provider)

    def start(self) -> None:
        """Run jobs from now on."""
        self.consumer.start()

    async def begin(self) -> Job:
        """Accept the one request as a stream that is run at once."""
        deadline = asyncio.get_running_loop().time() + 60
        size = len(to_json(BODY))
        try:
            return await self.inplace.start(Request("req_1", CHAT, "m", dict(BODY), True, CALLER, deadline, size=size))
        except PenstockError:
            if self.life.dead:  # its run has died, and who waits for it with it
                raise Died from None
            raise

    async def submit(self, caller: Caller = CALLER, *, streamed: bool = False, key: str = "") -> Job:
        """Accept the one request: as a job for later, or, under an idempotency key, as one that is run at once."""
        deadline = asyncio.get_running_loop().time() + 60
        size = len(to_json(BODY))
        request = Request(f"req_{uuid.uuid4().hex}", CHAT, "m", dict(BODY), streamed, caller, deadline, size=size)
        if not key:
            return await self.submissions.submit(request)
        try:
            return await self.inplace.start_once(request, key)
        except submission.Repeated as repeat:
            return repeat.job

    async def close(self) -> None:
        """End in order; one that is dead already ends without a trace."""
        for part in (self.consumer, self.desk.courier, self.ledger, self.limiter):
            with suppress(Died):
                await part.close()


class World:
    """State that outlives processes, and what outside observers have seen of it."""

    def __init__(self, store: Store, queue: Queue, objects: Objects | None, clock: Clock, *, streamed: bool) -> None:
        self.streamed = streamed
        self.key = ""
        self.resumable = False
        self.store = store
        self.queue = queue
        self.objects = objects
        self.clock = clock
        self.rooms: dict[str, int] = {}
        self.answers = 0
        self.accepted: list[Job] = []
        self.ended = 0
        self.happened = asyncio.Event()
        self.reading: asyncio.Task[bytes] | None = None
        self.received: list[tuple[str, Any]] = []

    def saw(self, call: str, answer: Any) -> None:
        """Count the ends that were written."""
        if call in ("finish_job", "settle"):
            self.happened.set()
        self.ended += call == "finish_job" and answer is True

    async def jobs(self) -> list[Job]:
        """Every open job that there is, known to its caller or not."""
        due = await self.store.due_jobs(self.clock.time() + 10**6, limit=100)
        found = [await self.store.find_job(job.id) for job in due]
        return [job for job in found if job is not None]

    async def unsent(self) -> int:
        """How many deliveries to webhooks wait."""
        return len(await self.store.due_deliveries(self.clock.time() + 10**6, limit=100))

    async def register(self) -> None:
        """Let the caller have a webhook."""
        webhook = Webhook("wh_1", "https://example.com/hook", Secret("whsec_dGVzdA=="))
        await self.store.replace_webhooks(Webhooks(CALLER.key_id, 1, (webhook,)))

    async def live(self, ends: int | None = None, *, submit: bool = False) -> Life:
        """Let a process live: submit a job perhaps, tell of those that are due, run what there is; until it dies."""
        process = Process(self, life := Life(ends))
        try:
            if submit:
                job = process.begin() if self.resumable else process.submit(streamed=self.streamed, key=self.key)
                self.accepted.append(await job)
                if self.streamed:
                    self.reading = asyncio.ensure_future(self.read(self.accepted[-1]))
            await process.resender.turn()
            await process.desk.courier.turn()
            process.start()
            async with asyncio.timeout(PATIENCE):
                while not life.dead and (await self.jobs() or await self.unsent()):
                    self.happened.clear()
                    with suppress(TimeoutError):  # a look costs a double of DynamoDB more than all that happens
                        async with asyncio.timeout(0.03):
                            await self.happened.wait()
        except Died:
            pass
        await process.close()
        self.clock.ahead += 3600 + self.clock.ahead  # every lease is over, and everything that waits is due
        return life

    async def read(self, job: Job) -> bytes:
        """What somebody in a process that lives has read of a job once it has ended, what was void left out."""
        said: list[bytes] = []
        async for event in following.Follower(self.store, Channels(), Bulk(self.objects, 0)).follow(job):
            if isinstance(event, following.Began):
                said.clear()
            elif isinstance(event, following.Said):
                assert event.first == len(said) + 1
                said += event.payloads
            else:
                assert event.whole
        return b"".join(json.loads(payload)["choices"][0]["delta"].get("content", "").encode() for payload in said)

    async def rest(self) -> None:
        """Let processes that live come until all is done."""
        for _ in range(4):
            await self.live()
            if not await self.jobs() and not await self.unsent():
                return

    async def spent(self) -> tuple[int, int, int]:
        """Nano-dollars of the budget, and of the ledger, and slots in use: once all holds have ended, lost ones too."""
        await self.store.end_expired(time.time_ns() + 3 * 3600 * SECOND)
        meter = await self.store.read_meter(f"key#{CALLER.key_id}")
        outcomes = await self.store.list_outcomes()
        return meter.spent.get("total", 0), sum(outcome.cost_nanos or 0 for outcome in outcomes), meter.slots


async def make(backend: str, folder: Path, patch: pytest.MonkeyPatch, *, streamed: bool = False) -> World:
    """A new world: all of it in SQLite files, or in DynamoDB and SQS; of a ``large`` one no document is in a record.

    Its jobs are ``streamed`` or not.
    """
    backend, _, large = backend.partition("-")
    name = uuid.uuid4().hex[:12]
    store: Store
    queue: Queue
    if backend == "sqlite":
        store = plugs.load("stores", "sqlite").connect(f"sqlite:///{folder}/{name}.db", None)
        queue = plugs.load("queues", "sqlite").connect(f"sqlite:///{folder}/{name}.queue.db", None)
    else:
        url = "http://{}.eu-west-1.amazonaws.com"
        address = f"dynamodb://laws-{name}?endpoint={url.format('dynamodb')}"
        store = plugs.load("stores", "dynamodb").connect(address, InProcess())
        made = sqs_backends["123456789012"]["eu-west-1"].create_queue(f"laws-{name}")
        address = f"sqs://sqs.eu-west-1.amazonaws.com/123456789012/{made.name}?endpoint={url.format('sqs')}"
        queue = plugs.load("queues", "sqs").connect(address, SqsInProcess())
    await store.open()
    await queue.open()
    clock = Clock()
    for module in (submission, inplace, resender, runner, sqlite_queue, announcer, courier):
        patch.setattr(module, "time", clock)
    for name in ("FIRST_LOOK", "LONGEST_LOOK", "NEXT_LOOK", "STATUS"):
        patch.setattr(following, name, 0.02)
    objects = None
    if large:
        objects = plugs.load("objects", "file").connect(f"file://{folder}/{name}.objects", None)
        await objects.open()
    return World(store, queue, objects, clock, streamed=streamed)
