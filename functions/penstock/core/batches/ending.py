"""How a batch ends: what is left of it is stopped, its two files are shown, its status is the last."""

from __future__ import annotations

import time
from dataclasses import replace
from hashlib import sha256

from penstock.core.batches.answers import EXPIRED
from penstock.core.files.shelf import Shelf
from penstock.core.ports import Store
from penstock.core.webhooks.announcer import Event
from penstock.schema import batch as states
from penstock.schema.batch import Batch
from penstock.schema.file import BATCH_OUTPUT, File

KINDS = ("output", "error")


def file_id(batch: Batch, kind: str) -> str:
    """The id of a batch's output or error file: the same for whoever asks."""
    told = f"{batch.id} {kind}".encode()
    return f"file-{int(batch.created_at * 1e6):014x}{sha256(told).hexdigest()[:16]}"


def stopped(batch: Batch, why: str, chunk: int, span: int) -> Batch:
    """The batch with no line to be begun any more.

    Whoever drives it without knowing may have begun lines up to the ``fence``, and none beyond.
    """
    return replace(batch, stopped=why, fence=batch.flushed * chunk + len(batch.marks) + span)


async def published(batch: Batch, files: Shelf, store: Store) -> Batch:
    """Have the key see the batch's files; answers the batch as it has ended."""
    now = time.time()
    ids = [
        await _published(batch, kind, size, files, store)
        for kind, size in zip(KINDS, (batch.output_size, batch.error_size), strict=True)
    ]
    batch = replace(batch, output_file_id=ids[0], error_file_id=ids[1])
    if batch.status == states.CANCELLING:
        return replace(batch, status=states.CANCELLED, cancelled_at=now)
    if batch.stopped == EXPIRED:
        return replace(batch, status=states.EXPIRED, expired_at=now)
    return replace(batch, status=states.COMPLETED, completed_at=now)


def end_of(batch: Batch) -> Event:
    """What webhooks are told of a batch that has ended."""
    at = batch.completed_at or batch.failed_at or batch.expired_at or batch.cancelled_at or time.time()
    about = {
        "id": batch.id,
        "object": "batch",
        "status": batch.status,
        "endpoint": batch.endpoint,
        "created_at": int(batch.created_at),
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "output_file_id": batch.output_file_id or None,
        "error_file_id": batch.error_file_id or None,
    }
    return Event(batch.key_id, f"batch.{batch.status}", batch.id, at, about)


async def _published(batch: Batch, kind: str, size: int, files: Shelf, store: Store) -> str:
    """Have the key see one of the two files; answers its id, which is empty where nothing is in it."""
    now = time.time()
    until = now + (batch.output_seconds or files.terms.retention)
    name = f"{batch.id}_{kind}.jsonl"
    file = File(file_id(batch, kind), batch.key_id, BATCH_OUTPUT, name, now, until, size, batch.flushed)
    if not size:
        await files.forget(file)
        return ""
    await store.replace_file(file, now=now)
    return file.id
