"""State in one SQLite file, for any number of processes on one machine: ``sqlite:///relative`` or ``sqlite:////absolute``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.stores.sqlite import (
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
from penstock.stores.sqlite.connection import Connection, file_of

if TYPE_CHECKING:
    from penstock.outbound import HttpClient


ROOM = 256 * 1024
"""Bytes of a document that a row should hold at most: a larger one is faster from a file."""


class SqliteStore(
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
    """A ``Store`` in the file behind ``db``; each part stands in its own module."""

    def __init__(self, db: Connection) -> None:
        self._db = db

    async def open(self) -> None:
        """Make the file and its tables where they are missing."""
        await self._db.open()

    async def close(self) -> None:
        """Close the file; idempotent."""
        await self._db.close()

    async def ping(self) -> None:
        """Raise ``StateError`` unless the file takes a write now."""
        await self._db.ping()


def connect(url: str, client: HttpClient | None) -> SqliteStore:
    """The store in the file that ``url`` names; nothing is touched before ``open``. ``client`` is not needed here.

    Raises ``SettingsError`` if the URL names no file.
    """
    parts = (
        keys,
        outcomes,
        registry,
        jobs,
        chunks,
        acts,
        limits,
        workers,
        notices,
        webhooks,
        deliveries,
        files,
        batches,
        cached,
        alerts,
        configs,
    )
    tables = [table for part in parts for table in part.TABLES]
    return SqliteStore(Connection(file_of(url, "PENSTOCK_STATE_URL"), tables))
