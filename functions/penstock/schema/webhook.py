"""Webhooks: the addresses that a key's holder is told at, and what was told, to which of them, and how that went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from penstock.schema.secret import Secret

JOB_EVENTS = ("job.completed", "job.failed", "job.cancelled")
BATCH_EVENTS = ("batch.completed", "batch.failed", "batch.expired", "batch.cancelled")
EVENTS = (*JOB_EVENTS, *BATCH_EVENTS)
TEST = "webhook.test"
"""The event of a delivery that its key's holder asked for, to see whether it arrives."""

WAITING = "waiting"
DELIVERED = "delivered"
FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Webhook:
    """One address, and which events it is told. Times are seconds since the epoch.

    After a rotation the ``previous`` secret signs as well until ``previous_until``. ``failing_since`` is when the first
    delivery failed after the last that did not. A webhook that was disabled is told nothing more.
    """

    id: str
    url: str
    secret: Secret
    events: tuple[str, ...] = EVENTS
    description: str = ""
    created_at: float = 0.0
    previous: Secret = Secret("")  # noqa: RUF009 - immutable
    previous_until: float = 0.0
    failing_since: float | None = None
    disabled_at: float | None = None
    disabled_because: str = ""

    def wants(self, event: str) -> bool:
        """Whether it is to be told of an event of this type."""
        return self.disabled_at is None and event in self.events


@dataclass(frozen=True, slots=True)
class Webhooks:
    """All webhooks of one key, the oldest first; each change of any of them counts the ``revision`` up."""

    key_id: str
    revision: int = 0
    each: tuple[Webhook, ...] = ()

    def find(self, id: str) -> Webhook | None:
        """The webhook with this id, or ``None``."""
        return next((webhook for webhook in self.each if webhook.id == id), None)


class Sending(NamedTuple):
    """One try to deliver: when, what status it was answered (0 for none), after how many seconds, and a few words."""

    at: float
    status: int
    seconds: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one webhook. ``message_id`` is the event's, the same for every webhook and every try.

    ``due_at`` is when it is to be sent, or, while a ``sender`` is at it, when that one is taken for dead. One that is
    delivered or has failed for good is due no more. ``tries`` counts those that failed since it was last begun anew;
    ``log`` holds the newest of all. What has expired is forgotten.
    """

    id: str
    webhook_id: str
    key_id: str
    message_id: str
    event: str
    body: bytes
    created_at: float
    status: str = WAITING
    tries: int = 0
    due_at: float | None = None
    sender: str = ""
    log: tuple[Sending, ...] = ()
    expires_at: float = 0.0


class DueDelivery(NamedTuple):
    """A delivery whose time has come."""

    id: str
    due_at: float
    webhook_id: str
