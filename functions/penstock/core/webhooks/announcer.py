"""Makes deliveries of events, durably and once for each webhook that wants to be told."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple

from penstock.core.json import to_json
from penstock.core.ports import Store
from penstock.core.webhooks.courier import KEPT_FOR, Courier
from penstock.errors import StateError
from penstock.schema.job import Job
from penstock.schema.webhook import FAILED, JOB_EVENTS, Delivery, DueDelivery, Sending, Webhook

log = logging.getLogger("penstock.webhooks")

FRESH = 3.0
"""Seconds for which it is believed that a key has webhooks, or none."""
CAPACITY = 10_000
UNTOLD = 5.0
"""Seconds after which somebody else tells of a job's end, where the process that ended it has died."""


class Event(NamedTuple):
    """What happened to something of a key's: its ``type``, a name of what it happened to that is never given again,
    the time in seconds since the epoch, and what is told of it: no prompt, and no answer.
    """

    key_id: str
    type: str
    subject: str
    at: float
    about: Mapping[str, Any]

    @property
    def message_id(self) -> str:
        """The same for every webhook and every try, on any process."""
        return "msg_" + _digest(self.key_id, self.type, self.subject)

    @property
    def body(self) -> bytes:
        """What is sent, as the specification recommends it."""
        told = datetime.fromtimestamp(self.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return to_json({"type": self.type, "timestamp": told, "data": dict(self.about)})


class Announcer:
    """Tells webhooks of events. No more than ``backlog`` deliveries to one of them wait, about."""

    def __init__(self, store: Store, courier: Courier, *, backlog: int) -> None:
        self._store = store
        self._courier = courier
        self._backlog = backlog
        self._wanted: dict[str, tuple[float, bool]] = {}

    async def wanted(self, key_id: str) -> bool:
        """Whether a key has webhooks that are told of jobs: what was so some seconds ago. Raises ``StateError``."""
        asked_at, wanted = self._wanted.get(key_id, (-FRESH, False))
        now = time.monotonic()
        if now - asked_at >= FRESH:
            found = await self._store.load_webhooks(key_id)
            wanted = any(webhook.wants(event) for webhook in found.each for event in JOB_EVENTS)
            if len(self._wanted) >= CAPACITY:
                self._wanted.clear()
            self._wanted[key_id] = now, wanted
        return wanted

    def forget(self, key_id: str) -> None:
        """Ask anew when next a key's webhooks matter."""
        self._wanted.pop(key_id, None)

    async def announce(self, event: Event) -> None:
        """Have every webhook told that wants to be: once this returns, each is, whatever dies.

        The same event announced again is the same one. Raises ``StateError``; then announce it again.
        """
        found = await self._store.load_webhooks(event.key_id)
        fresh = [await self._deliver(webhook, event) for webhook in found.each if webhook.wants(event.type)]
        self._courier.soon([delivery for delivery in fresh if delivery is not None])

    async def tell_end(self, job: Job) -> None:
        """Announce how a job has ended, and then make it due no more. Raises ``StateError``; it stays due."""
        assert job.finished_at is not None
        about = {
            "id": job.id,
            "object": "job",
            "status": job.status,
            "endpoint": f"/v1/{job.endpoint}",
            "model": job.model,
            "created_at": int(job.created_at),
            "finished_at": int(job.finished_at),
        }
        # an id that was made of an Idempotency-Key comes again once the job has expired
        subject = f"{job.id} {job.created_at!r}"
        await self.announce(Event(job.key_id, f"job.{job.status}", subject, job.finished_at, about))
        await self._store.told_job(job.id)

    async def tell_end_now(self, job: Job) -> None:
        """As ``tell_end``, by the process that ended the job: if it cannot, the job is due, and others do."""
        try:
            await self.tell_end(job)
        except StateError as error:
            log.warning("a job's end is told later: %s", error, extra={"job_id": job.id})

    async def sent(self) -> None:
        """Wait until what was announced here has been tried once."""
        await self._courier.sent()

    async def _deliver(self, webhook: Webhook, event: Event) -> DueDelivery | None:
        delivery = new_delivery(webhook, event, time.time())
        if await self._store.count_waiting(webhook.id, limit=self._backlog) >= self._backlog:
            full = Sending(delivery.created_at, 0, 0.0, f"not sent: {self._backlog} others wait for this webhook")
            delivery = replace(delivery, status=FAILED, due_at=None, log=(full,))
            log.warning("a webhook's backlog is full", extra={"webhook_id": webhook.id})
        if not await self._store.create_delivery(delivery) or delivery.due_at is None:
            return None
        return DueDelivery(delivery.id, delivery.due_at, webhook.id)


def new_delivery(webhook: Webhook, event: Event, now: float) -> Delivery:
    """The delivery of an event to a webhook, due at once; the same pair has the same id."""
    return Delivery(
        id="dlv_" + _digest(event.message_id, webhook.id),
        webhook_id=webhook.id,
        key_id=event.key_id,
        message_id=event.message_id,
        event=event.type,
        body=event.body,
        created_at=now,
        due_at=now,
        expires_at=now + KEPT_FOR,
    )


def _digest(*parts: str) -> str:
    return sha256("\0".join(parts).encode()).hexdigest()[:32]
