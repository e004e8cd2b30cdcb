"""``/v1/webhooks``: addresses that a key's holder is told at when its jobs and batches end."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal, cast

from fastapi import Query, Response
from pydantic import BaseModel, ConfigDict, Field

from penstock.dialects._exchange import LazyRouter
from penstock.dialects._guard import Here, Inference, Limited
from penstock.schema.webhook import EVENTS, Delivery, Webhook

router = LazyRouter(prefix="/v1/webhooks", tags=["webhooks"])

Address = Annotated[str, Field(min_length=1, max_length=2000)]
Text = Annotated[str, Field(max_length=500)]
Event = Literal[
    "job.completed",
    "job.failed",
    "job.cancelled",
    "batch.completed",
    "batch.failed",
    "batch.expired",
    "batch.cancelled",
]
Events = Annotated[list[Event], Field(min_length=1, max_length=len(EVENTS))]
DAY = 86_400.0


class NewWebhook(BaseModel):
    """An address, and the events that it is told: all of them, unless it says which."""

    model_config = ConfigDict(extra="forbid", strict=True)

    url: Address
    events: Events = Field(default_factory=lambda: cast("list[Event]", list(EVENTS)))
    description: Text = ""


class WebhookChange(BaseModel):
    """What is to be different. ``enabled`` lets a disabled webhook begin anew, or disables it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    url: Address | None = None
    events: Events | None = None
    description: Text | None = None
    enabled: bool | None = None


class SecretRotation(BaseModel):
    """How long the secret before the rotation signs as well: ``grace_seconds``, at most 30 days."""

    model_config = ConfigDict(extra="forbid", strict=True)

    grace_seconds: Annotated[float, Field(ge=0, le=30 * DAY)] = DAY


@router.post("", status_code=201, summary="Register a webhook; its secret is shown this once")
async def create_webhook(new: NewWebhook, house: Here, caller: Limited, response: Response) -> dict[str, Any]:
    """From now on it is told of the jobs that this key submits."""
    response.headers["cache-control"] = "no-store"
    fields = {"url": new.url, "events": _once(new.events), "description": new.description}
    webhook = await house.webhooks.registrations.add(caller, fields)
    return {**_shown(webhook), "secret": webhook.secret.reveal()}


@router.get("", summary="List webhooks, without their secrets")
async def list_webhooks(house: Here, caller: Inference) -> dict[str, Any]:
    """The webhooks of this key, the oldest first."""
    every = await house.webhooks.registrations.every(caller)
    return {"object": "list", "data": [_shown(webhook) for webhook in every]}


@router.get("/{webhook_id}", summary="Describe a webhook")
async def read_webhook(webhook_id: str, house: Here, caller: Inference) -> dict[str, Any]:
    """One webhook; if it was disabled, when and why."""
    return _shown(await house.webhooks.registrations.find(caller, webhook_id))


@router.patch("/{webhook_id}", summary="Change a webhook")
async def change_webhook(webhook_id: str, change: WebhookChange, house: Here, caller: Inference) -> dict[str, Any]:
    """Change the fields that are sent."""
    fields = change.model_dump(exclude_none=True, exclude={"enabled"})
    if change.events is not None:
        fields["events"] = _once(change.events)
    return _shown(await house.webhooks.registrations.change(caller, webhook_id, fields, change.enabled))


@router.delete("/{webhook_id}", summary="Remove a webhook")
async def remove_webhook(webhook_id: str, house: Here, caller: Inference) -> dict[str, Any]:
    """Forget a webhook; what waits for it is not sent any more."""
    await house.webhooks.registrations.remove(caller, webhook_id)
    return {"id": webhook_id, "object": "webhook", "deleted": True}


@router.post("/{webhook_id}/rotate", summary="Put a new secret in the place of one; it is shown this once")
async def rotate_webhook(
    webhook_id: str, house: Here, caller: Inference, response: Response, rotation: SecretRotation | None = None
) -> dict[str, Any]:
    """The new secret signs at once; the one before signs beside it for its grace."""
    response.headers["cache-control"] = "no-store"
    grace = (rotation or SecretRotation()).grace_seconds
    webhook = await house.webhooks.registrations.rotate(caller, webhook_id, grace=grace)
    return {**_shown(webhook), "secret": webhook.secret.reveal()}


@router.post("/{webhook_id}/test", summary="Send a webhook a test, and tell what came of it")
async def test_webhook(webhook_id: str, house: Here, caller: Limited) -> dict[str, Any]:
    """One try, of the event ``webhook.test``."""
    return _told(await house.webhooks.registrations.test(caller, webhook_id))


@router.get("/{webhook_id}/deliveries", summary="What a webhook was told, and how that went")
async def list_deliveries(
    webhook_id: str,
    house: Here,
    caller: Inference,
    before: Annotated[float | None, Query(gt=0, lt=1e11)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> dict[str, Any]:
    """The newest deliveries first, with every try; with ``before``, those that were made before that time."""
    found = await house.webhooks.registrations.deliveries(
        caller, webhook_id, before=before or time.time() + DAY, limit=limit
    )
    return {"object": "list", "data": [_told(delivery) for delivery in found]}


@router.post("/deliveries/{delivery_id}/redeliver", summary="Send a delivery again, and tell what came of it")
async def redeliver(delivery_id: str, house: Here, caller: Limited) -> dict[str, Any]:
    """One try now, under the same ``webhook-id``; after a failure it is tried again later, as a new one is."""
    return _told(await house.webhooks.registrations.redeliver(caller, delivery_id))


def _once(events: list[Event]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(events))


def _shown(webhook: Webhook) -> dict[str, Any]:
    return {
        "id": webhook.id,
        "object": "webhook",
        "url": webhook.url,
        "events": webhook.events,
        "description": webhook.description,
        "status": "enabled" if webhook.disabled_at is None else "disabled",
        "disabled_at": webhook.disabled_at,
        "disabled_because": webhook.disabled_because or None,
        "failing_since": webhook.failing_since,
        "created_at": webhook.created_at,
        "rotation_ends_at": webhook.previous_until if webhook.previous_until > time.time() else None,
    }


def _told(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "object": "webhook.delivery",
        "webhook_id": delivery.webhook_id,
        "message_id": delivery.message_id,
        "event": delivery.event,
        "status": delivery.status,
        "created_at": delivery.created_at,
        "next_try_at": delivery.due_at,
        "tries": [said._asdict() for said in delivery.log],
    }
