"""Webhooks and deliveries as flat values: the form in which every store keeps them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from penstock.schema.secret import Secret
from penstock.schema.webhook import Delivery, Sending, Webhook

_KNOWN = {field.name for field in fields(Webhook)}
_SECRET = ("secret", "previous")


def dump(webhooks: tuple[Webhook, ...]) -> str:
    """The webhooks as a JSON array, with their secrets: only a store gets to see it."""
    return json.dumps([_spoken(webhook) for webhook in webhooks], separators=(",", ":"))


def load(text: str) -> tuple[Webhook, ...]:
    """The webhooks of a JSON array; what a newer version added to them is passed over."""
    return tuple(map(_whole, json.loads(text)))


def flat(delivery: Delivery) -> dict[str, Any]:
    """The delivery's fields, in their order."""
    values = {field.name: getattr(delivery, field.name) for field in fields(delivery)}
    return values | {"log": json.dumps(delivery.log, separators=(",", ":"))}


def whole(values: Mapping[str, Any]) -> Delivery:
    """The delivery that these values were made of."""
    return Delivery(**{**values, "log": tuple(Sending(*told[:4]) for told in json.loads(values["log"]))})


def _spoken(webhook: Webhook) -> dict[str, Any]:
    values = {name: getattr(webhook, name) for name in _KNOWN}
    return values | {name: values[name].reveal() for name in _SECRET}


def _whole(values: dict[str, Any]) -> Webhook:
    known = {name: value for name, value in values.items() if name in _KNOWN}
    secrets = {name: Secret(known[name]) for name in _SECRET}
    return Webhook(**{**known, **secrets, "events": tuple(known["events"])})
