"""Signatures of the Standard Webhooks specification (standardwebhooks.com): HMAC-SHA256 over ``id.timestamp.body``."""

from __future__ import annotations

import secrets
from base64 import b64decode, b64encode
from hashlib import sha256
from hmac import digest

from penstock.schema.secret import Secret
from penstock.schema.webhook import Webhook

PREFIX = "whsec_"
BYTES = 32
"""Of a secret; the specification wants 24 to 64."""


def new_secret() -> Secret:
    """A new secret from the system's cryptographic source, in the form in which its holder is told it."""
    return Secret(PREFIX + b64encode(secrets.token_bytes(BYTES)).decode())


def signature(secret: Secret, message_id: str, at: int, body: bytes) -> str:
    """One signature; ``at`` is in whole seconds since the epoch."""
    key = b64decode(secret.reveal().removeprefix(PREFIX))
    return "v1," + b64encode(digest(key, f"{message_id}.{at}.".encode() + body, sha256)).decode()


def signed_headers(webhook: Webhook, message_id: str, now: float, body: bytes) -> list[tuple[str, str]]:
    """The specification's three headers. Within the grace of a rotation the secret before it signs as well."""
    at = int(now)
    signing = [webhook.secret, webhook.previous] if now < webhook.previous_until else [webhook.secret]
    return [
        ("webhook-id", message_id),
        ("webhook-timestamp", str(at)),
        ("webhook-signature", " ".join(signature(secret, message_id, at, body) for secret in signing)),
    ]
