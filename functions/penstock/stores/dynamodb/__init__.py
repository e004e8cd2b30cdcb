"""State in DynamoDB tables: ``dynamodb://prefix?region=eu-west-1``, and ``&endpoint=http://host:port`` for
another server that speaks like it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from penstock.errors import SettingsError
from penstock.stores.dynamodb import (
    acts,
    alerts,
    batches,
    cached,
    chunks,
    configs,
    deliveries,
    files,
    jobs,
    keys,
    limits,
    notices,
    outcomes,
    registry,
    webhooks,
    workers,
)

if TYPE_CHECKING:
    from penstock.outbound import HttpClient
    from penstock.stores.dynamodb.connection import Connection

TABLES = {
    "keys": keys.TABLE,
    "outcomes": outcomes.TABLE,
    "registry": registry.TABLE,
    "jobs": jobs.TABLE,
    "chunks": chunks.TABLE,
    "acts": acts.TABLE,
    "limits": limits.TABLE,
    "workers": workers.TABLE,
    "notices": notices.TABLE,
    "webhooks": webhooks.TABLE,
    "deliveries": deliveries.TABLE,
    "files": files.TABLE,
    "batches": batches.TABLE,
    "cached": cached.TABLE,
    "alerts": alerts.TABLE,
}

ROOM = 64 * 1024
"""Bytes of a document that an item should hold at most: each write of the item is paid by its size."""

_PREFIX = re.compile(r"[A-Za-z0-9_.-]{1,200}")
_ENDPOINT = re.compile(r"https?://[^/\s]+/?")


class DynamoStore(
    keys.Keys,
    outcomes.Outcomes,
    registry.Registries,
    jobs.Jobs,
    chunks.Chunks,
    acts.Acts,
    limits.Limits,
    workers.Workers,
    notices.Notices,
    webhooks.KeptWebhooks,
    deliveries.Deliveries,
    files.Files,
    batches.Batches,
    cached.CachedValues,
    alerts.Alerts,
    configs.Configs,
):
    """A ``Store`` in the tables behind ``db``; each part stands in its own module."""

    def __init__(self, db: Connection) -> None:
        self._db = db
        self._seen = {}

    async def open(self) -> None:
        """Find credentials and look for the tables; make missing ones, but only at an endpoint of one's own."""
        await self._db.open()

    async def close(self) -> None:
        """Close the connections; idempotent."""
        await self._db.close()

    async def ping(self) -> None:
        """Raise ``StateError`` unless a read and a write work now."""
        await self._db.ping()


def connect(url: str, client: HttpClient | None) -> DynamoStore:
    """The store in the tables that ``url`` names; nothing is sent before ``open``.

    ``client`` carries the calls; without one the store has its own. Raises ``SettingsError`` if the URL is malformed.
    """
    from penstock.stores.dynamodb.connection import Connection  # noqa: PLC0415 - brings aiodynamo along

    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    endpoint, region = options.pop("endpoint", None), options.pop("region", None)
    if parts.scheme != "dynamodb" or not _PREFIX.fullmatch(parts.netloc) or parts.path.strip("/"):
        raise _wrong(f"{url!r} names no tables: write dynamodb://prefix?region=eu-west-1")
    if options:
        raise _wrong(f"{url!r} has an unknown option {next(iter(options))!r}: there are endpoint and region")
    if endpoint is not None and not _ENDPOINT.fullmatch(endpoint):
        raise _wrong(f"the endpoint in {url!r} must look like http://host:port")
    if not region and not endpoint:
        raise _wrong(f"{url!r} names no region: write dynamodb://{parts.netloc}?region=eu-west-1, or set AWS_REGION")
    region = region or "us-east-1"
    return DynamoStore(Connection(parts.netloc, TABLES, region=region, endpoint=endpoint, client=client))


def _wrong(message: str) -> SettingsError:
    return SettingsError(message, setting="PENSTOCK_STATE_URL")
