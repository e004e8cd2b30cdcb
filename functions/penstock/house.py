"""The parts of one process, once ``bootstrap`` has put them together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.core.alerts.desk import AlertDesk
from penstock.core.batches.accepting import Batches
from penstock.core.files.shelf import Shelf
from penstock.core.fleet import Fleet
from penstock.core.gateway import Gateway
from penstock.core.guests import Guests
from penstock.core.health import Prober
from penstock.core.jobs.consumer import Consumer
from penstock.core.jobs.following import Follower
from penstock.core.jobs.inplace import InPlace
from penstock.core.jobs.pulled import PulledJobs
from penstock.core.jobs.recording import Channels
from penstock.core.jobs.repeats import Repeats
from penstock.core.jobs.resender import Resender
from penstock.core.jobs.runner import JobRunner
from penstock.core.jobs.submission import Submissions
from penstock.core.jobs.usher import Usher
from penstock.core.keys import Keyring
from penstock.core.limits.limiter import Limiter
from penstock.core.limits.reaper import Reaper
from penstock.core.metering import Ledger
from penstock.core.ports import Objects, Queue, Store
from penstock.core.prices import Catalog
from penstock.core.registry import ModelRegistry
from penstock.core.sweeper import Sweeper
from penstock.core.templates.filling import Templates
from penstock.core.vitals import Vitals
from penstock.core.webhooks.desk import WebhookDesk
from penstock.outbound import HttpClient
from penstock.settings import Settings

if TYPE_CHECKING:
    from penstock.core.cache.caches import Caches
    from penstock.core.memory import MemoryGuard
    from penstock.core.pool import Pool
    from penstock.tracing import Spans


@dataclass(frozen=True, slots=True)
class House:
    """The parts of one process, on one event loop, for one version of its configuration.

    ``speak`` has the process log as this configuration says. Its successor, which ``build`` makes from other settings,
    has the same client, store, queue, objects, channels, consumer and pool; this one is to ``rest`` from then on, and
    to ``retire`` when its last guest has left.
    """

    settings: Settings
    build: Callable[[Settings, House], House]
    speak: Callable[[], None]
    guests: Guests
    client: HttpClient
    store: Store
    keyring: Keyring
    registry: ModelRegistry
    fleet: Fleet
    ledger: Ledger
    prices: Catalog
    limiter: Limiter
    reaper: Reaper
    prober: Prober
    gateway: Gateway
    queue: Queue
    objects: Objects | None
    channels: Channels
    jobs: Submissions
    follower: Follower
    repeats: Repeats
    runner: JobRunner
    inplace: InPlace
    pulled: PulledJobs
    resender: Resender
    files: Shelf
    batches: Batches
    sweeper: Sweeper
    usher: Usher
    consumer: Consumer
    webhooks: WebhookDesk
    caches: Caches | None
    memory: MemoryGuard | None
    vitals: Vitals
    alerts: AlertDesk
    templates: Templates | None
    spans: Spans | None
    pool: Pool | None
    key_header: bytes

    async def open(self) -> None:
        """Open the store and the queue. Raises ``StateError`` saying what is wrong with them."""
        await self.store.open()
        await self.queue.open()
        if self.objects is not None:
            await self.objects.open()

    def start(self, before: House | None = None) -> None:
        """Run jobs and do chores from now on, as a server does: a command that looks around must take no job.

        The jobs and chores of the house ``before`` go on here.
        """
        if self.pool is not None and before is None:
            self.pool.start()
        self.resender.start(before.resender if before else None)
        self.sweeper.start(before.sweeper if before else None)
        self.usher.start(before.usher if before else None)
        self.webhooks.courier.start(before.webhooks.courier if before else None)
        self.alerts.start(before.alerts if before else None)
        self.reaper.start(before.reaper if before else None)
        if (check := self.settings.document.health_check).enabled and check.providers:
            self.prober.start(before.prober if before else None)
        if self.caches is not None:
            self.caches.cleaner.start(before.caches.cleaner if before and before.caches else None)
        if self.memory is not None:
            self.memory.start()
        if (condenser := self.gateway.condenser) is not None and condenser.cleaner is not None:
            last = before.gateway.condenser if before else None
            condenser.cleaner.start(last.cleaner if last else None)
        document = self.settings.document
        self.consumer.follow(self.runner, concurrency=document.jobs.concurrency, grace=document.server.grace)
        self.consumer.start()

    async def rest(self) -> None:
        """Do no more chores, another house does; who is inside is served on."""
        await self.resender.close()
        await self.sweeper.close()
        await self.usher.close()
        await self.webhooks.courier.stop()
        await self.alerts.watchman.close()
        await self.prober.close()
        await self.reaper.close()
        if self.memory is not None:
            await self.memory.close()
        if self.caches is not None:
            await self.caches.cleaner.close()
        if (condenser := self.gateway.condenser) is not None and condenser.cleaner is not None:
            await condenser.cleaner.close()
        self.limiter.rest()

    async def retire(self) -> None:
        """Let go of what no other house has, once nobody is inside."""
        await self.pulled.close()
        await self.rest()
        await self.webhooks.close()
        await self.alerts.close()
        await self.gateway.close()
        if self.caches is not None:
            await self.caches.close()
        await self.ledger.close()
        if self.spans is not None:
            await asyncio.to_thread(self.spans.close)
        await self.limiter.close()

    async def close(self) -> None:
        """Write what waits to be written and let go of everything."""
        await self.consumer.close()
        await self.retire()
        if self.pool is not None:
            await self.pool.close()
        if self.objects is not None:
            await self.objects.close()
        await self.client.aclose()
        await self.queue.close()
        await self.store.close()
