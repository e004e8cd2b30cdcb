"""``/v1/files``: https://platform.openai.com/docs/api-reference/files"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect

from penstock.dialects._exchange import ClientLeft, LazyRouter, told_in
from penstock.dialects._form import Form
from penstock.dialects._guard import Here, Inference, Limited
from penstock.dialects._paging import page
from penstock.errors import CallerError, InvalidRequest, RequestTooLarge
from penstock.schema.file import BATCH_OUTPUT, LONGEST, PURPOSES, SHORTEST, File

router = LazyRouter(prefix="/v1/files", tags=["files"])

AROUND = 64 * 1024
"""Bytes of a form beside its file."""
_FORM = {
    "type": "object",
    "required": ["file", "purpose"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"type": "string", "enum": list(PURPOSES)},
        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
        "expires_after[seconds]": {"type": "integer", "minimum": SHORTEST, "maximum": LONGEST},
    },
}
_DOCUMENTED = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}}


@router.post("", summary="Keep a file", openapi_extra=_DOCUMENTED)
async def create_file(request: Request, house: Here, caller: Limited) -> dict[str, Any]:
    """Keep a file of up to ``files.max_bytes``, private to its key: what a batch reads, or anything else."""
    limit = house.files.terms.max_bytes
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit + AROUND:
        raise RequestTooLarge(f"A file may have {limit} bytes, and this form has {declared}.", param="file")
    form = Form(request.headers.get("content-type", ""), _body(request))
    begun = await house.files.begin(caller.key_id)
    try:
        file = await house.files.write(begun, form.file())
        fields = await form.rest()
        file = replace(file, purpose=_purpose(fields), filename=form.filename[:200] or file.id)
        return shown(await house.files.publish(file, seconds=_seconds(fields)))
    except CallerError:
        await house.files.forget(begun)
        raise


@router.get("", summary="A key's files")
async def list_files(
    house: Here,
    caller: Inference,
    *,
    purpose: Annotated[str, Query(max_length=64)] = "",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    after: Annotated[str, Query(max_length=200, description="the id of the last file of the page before")] = "",
    order: Literal["asc", "desc"] = "desc",
) -> dict[str, Any]:
    """The files of this key, newest first, in pages."""
    found = await house.files.listed(
        caller.key_id, limit=limit + 1, after=after, oldest_first=order == "asc", purpose=purpose
    )
    return page([shown(file) for file in found], limit)


@router.get("/{file_id}", summary="A file, without its bytes")
async def read_file(file_id: str, house: Here, caller: Inference) -> dict[str, Any]:
    """What is known of a file."""
    return shown(await house.files.find(file_id, caller.key_id))


@router.get(
    "/{file_id}/content",
    summary="A file's bytes",
    response_class=Response,
    responses={200: told_in("application/octet-stream", "application/jsonl")},
)
async def read_file_content(file_id: str, house: Here, caller: Inference) -> StreamingResponse:
    """The bytes of a file, as they were sent, in pieces."""
    file = await house.files.find(file_id, caller.key_id)
    headers = {
        "content-length": str(file.size),
        "content-disposition": f"attachment; filename*=UTF-8''{quote(file.filename, safe='')}",
        "x-content-type-options": "nosniff",
    }
    kind = "application/jsonl" if file.purpose == BATCH_OUTPUT else "application/octet-stream"
    return StreamingResponse(house.files.content(file), headers=headers, media_type=kind)


@router.delete("/{file_id}", summary="Forget a file")
async def delete_file(file_id: str, house: Here, caller: Inference) -> dict[str, Any]:
    """Forget a file and its bytes."""
    await house.files.forget(await house.files.find(file_id, caller.key_id))
    return {"id": file_id, "object": "file", "deleted": True}


def shown(file: File) -> dict[str, Any]:
    """A file as OpenAI's clients know it."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size,
        "created_at": int(file.created_at),
        "expires_at": int(file.expires_at),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


async def _body(request: Request) -> AsyncGenerator[bytes, None]:
    try:
        async for piece in request.stream():
            if piece:
                yield piece
    except ClientDisconnect:
        raise ClientLeft from None


def _purpose(fields: dict[str, str]) -> str:
    purpose = fields.get("purpose")
    if purpose is None:
        raise InvalidRequest("purpose: is required.", param="purpose")
    if purpose not in PURPOSES:
        raise InvalidRequest(f"purpose: must be one of {', '.join(PURPOSES)}.", param="purpose")
    return purpose


def _seconds(fields: dict[str, str]) -> float | None:
    """For how long a caller wants a file kept."""
    said = fields.get("expires_after[seconds]")
    if fields.get("expires_after[anchor]", "created_at") != "created_at":
        raise InvalidRequest("expires_after.anchor: must be 'created_at'.", param="expires_after.anchor")
    if said is None:
        return None
    if not (said.isascii() and said.isdigit() and SHORTEST <= int(said) <= LONGEST):
        raise InvalidRequest(
            f"expires_after.seconds: must be from {SHORTEST} to {LONGEST}.", param="expires_after.seconds"
        )
    return float(said)
