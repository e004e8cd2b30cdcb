"""Records to put into stores."""

from __future__ import annotations

import time
import uuid
from typing import Any

from penstock.schema.job import Job
from penstock.schema.key import VirtualKey
from penstock.schema.model import ModelCard, Selection
from penstock.schema.outcome import Outcome, Usage
from penstock.schema.secret import Secret
from penstock.schema.webhook import Delivery, Webhook

NOW = float(int(time.time()))
"""A moment near the present: what is much older has expired where a store forgets by itself."""


LATER = NOW + 86400.0


def a_key(**differs: Any) -> VirtualKey:
    """A key with an id and a hash of its own."""
    plain: dict[str, Any] = {"id": f"key_{uuid.uuid4().hex}", "sha256": uuid.uuid4().hex * 2, "hint": "sk-…abcd"}
    return VirtualKey(**(plain | {"created_at": NOW} | differs))


def an_outcome(**differs: Any) -> Outcome:
    """An outcome with a request id of its own."""
    plain: dict[str, Any] = {
        "request_id": f"req_{uuid.uuid4().hex}",
        "started_at": NOW,
        "duration": 0.25,
        "key_id": "key_1",
        "owner": "ada",
        "endpoint": "/v1/chat/completions",
        "model": "tiny",
        "deployment": "engine/tiny",
        "ended": "ok",
        "status": 200,
        "usage": Usage(12, 30, 4),
        "usage_reported": True,
        "marks": ("chaos:delay;severity=low", "condensed"),
    }
    return Outcome(**(plain | differs))


def a_job(**differs: Any) -> Job:
    """A queued job with an id of its own."""
    plain: dict[str, Any] = {
        "id": f"job_{uuid.uuid4().hex}",
        "key_id": "key_1",
        "endpoint": "/v1/chat/completions",
        "body": b'{"model":"tiny"}',
        "created_at": NOW,
    }
    return Job(**(plain | differs))


def a_card(id: str = "tiny", **differs: Any) -> ModelCard:
    """What a provider says of one model."""
    plain: dict[str, Any] = {"id": id, "owned_by": "engine", "provider_type": "sglang", "created": 1_700_000_000}
    return ModelCard(**(plain | differs))


def a_selection(provider: str = "engine", **differs: Any) -> Selection:
    """What was selected of a provider."""
    plain: dict[str, Any] = {"provider": provider, "models": ("tiny", "org/small"), "at": NOW}
    return Selection(**(plain | differs))


def a_webhook(**differs: Any) -> Webhook:
    """A webhook with an id of its own."""
    plain: dict[str, Any] = {
        "id": f"wh_{uuid.uuid4().hex}",
        "url": "https://example.com/hook",
        "secret": Secret("whsec_dGVzdA=="),
        "created_at": NOW,
    }
    return Webhook(**(plain | differs))


def a_delivery(**differs: Any) -> Delivery:
    """A delivery that is due, with an id of its own."""
    plain: dict[str, Any] = {
        "id": f"dlv_{uuid.uuid4().hex}",
        "webhook_id": "wh_1",
        "key_id": "key_1",
        "message_id": "msg_1",
        "event": "job.completed",
        "body": b'{"type":"job.completed"}',
        "created_at": NOW,
        "due_at": NOW,
        "expires_at": LATER,
    }
    return Delivery(**(plain | differs))
