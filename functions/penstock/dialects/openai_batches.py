"""``/v1/batches``: https://platform.openai.com/docs/api-reference/batch"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from penstock.core.json import parse, to_json
from penstock.dialects._exchange import LazyRouter
from penstock.dialects._guard import Here, Inference, Limited
from penstock.dialects._paging import page
from penstock.errors import InvalidRequest
from penstock.schema.batch import LONGEST_WINDOW, Batch
from penstock.schema.file import LONGEST, SHORTEST

router = LazyRouter(prefix="/v1/batches", tags=["batches"])

UNITS = {"m": 60.0, "h": 3600.0, "d": 86_400.0}
STAMPS = ("in_progress_at", "finalizing_at", "completed_at", "failed_at", "expired_at", "cancelling_at", "cancelled_at")
_WINDOW = re.compile(r"([1-9][0-9]{0,5})([mhd])")

Name = Annotated[str, Field(min_length=1, max_length=64)]
Text = Annotated[str, Field(max_length=512)]


class OutputExpiresAfter(BaseModel):
    """For how long the output and the error file are kept, from when they are made."""

    model_config = ConfigDict(extra="forbid", strict=True)

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=SHORTEST, le=LONGEST)]


class NewBatch(BaseModel):
    """A batch: a file of requests to one endpoint, and how long it may take: ``24h``, or so many ``m``, ``h``, ``d``.

    Other fields are passed over, as OpenAI's clients may send newer ones.
    """

    model_config = ConfigDict(extra="ignore", strict=True)

    input_file_id: Annotated[str, Field(min_length=1, max_length=200)]
    endpoint: Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings"]
    completion_window: Annotated[str, Field(examples=["24h"])]
    metadata: Annotated[dict[Name, Text], Field(max_length=16)] | None = None
    output_expires_after: OutputExpiresAfter | None = None


@router.post("", summary="Have the requests in a file answered")
async def create_batch(body: NewBatch, house: Here, caller: Limited) -> dict[str, Any]:
    """Accept a batch. Its lines are looked at first; then each is run as a job, under all limits and budgets."""
    batch = await house.batches.create(
        caller,
        file_id=body.input_file_id,
        endpoint=body.endpoint,
        window=(body.completion_window, _seconds(body.completion_window)),
        metadata=to_json(body.metadata).decode() if body.metadata is not None else "",
        seconds=body.output_expires_after.seconds if body.output_expires_after else 0,
    )
    return shown(batch)


@router.get("", summary="A key's batches")
async def list_batches(
    house: Here,
    caller: Inference,
    *,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str, Query(max_length=200, description="the id of the last batch of the page before")] = "",
) -> dict[str, Any]:
    """The batches of this key, newest first, in pages."""
    found = await house.batches.listed(caller, limit=limit + 1, after=after)
    return page([shown(batch) for batch in found], limit)


@router.get("/{batch_id}", summary="How far a batch is")
async def read_batch(batch_id: str, house: Here, caller: Inference) -> dict[str, Any]:
    """A batch, with its counts as they are now."""
    return shown(await house.batches.find(batch_id, caller))


@router.post("/{batch_id}/cancel", summary="Cancel a batch")
async def cancel_batch(batch_id: str, house: Here, caller: Inference) -> dict[str, Any]:
    """Begin no more of its requests, and stop those under way; what has been answered by then is in its files."""
    return shown(await house.batches.cancel(batch_id, caller))


def shown(batch: Batch) -> dict[str, Any]:
    """A batch as OpenAI's clients know it."""
    told: dict[str, Any] = {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": {"object": "list", "data": parse(batch.errors)} if batch.errors else None,
        "input_file_id": batch.input_file_id,
        "completion_window": batch.completion_window,
        "status": batch.status,
        "output_file_id": batch.output_file_id or None,
        "error_file_id": batch.error_file_id or None,
        "created_at": int(batch.created_at),
        "expires_at": int(batch.expires_at),
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "metadata": parse(batch.metadata) if batch.metadata else None,
    }
    for name in STAMPS:
        stamp = getattr(batch, name)
        told[name] = None if stamp is None else int(stamp)
    return told


def _seconds(window: str) -> float:
    found = _WINDOW.fullmatch(window)
    seconds = float(found[1]) * UNITS[found[2]] if found else 0.0
    if not 60 <= seconds <= LONGEST_WINDOW:
        raise InvalidRequest(
            "completion_window: must be '24h', or another time from '1m' to '7d', such as '90m' or '12h'.",
            param="completion_window",
        )
    return seconds
