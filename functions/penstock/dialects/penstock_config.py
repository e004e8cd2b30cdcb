"""The configuration of a running gateway: ``/v1/config/reload``, ``/v1/config/rollback``, ``/v1/config/status`` and
``/v1/config/history``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Query, Request, Response
from pydantic import Field

from penstock.core.cache.caches import cache_status
from penstock.core.json import to_json
from penstock.dialects._exchange import LazyRouter
from penstock.dialects._guard import Administrator, administrator
from penstock.errors import InvalidRequest, SettingsError
from penstock.schema.config_version import ConfigVersion
from penstock.schema.wire_error import error_document
from penstock.succession import Look, Succession

router = LazyRouter(prefix="/v1/config", tags=["configuration"])

MOST = 100
"""Versions that one answer lists at most."""


Version = Annotated[int, Field(ge=0, le=2**53)]


@dataclass(frozen=True, slots=True)
class Rollback:
    """The version to go back to; the one before, if none is named."""

    version: Version | None = None


def succession_of(request: Request) -> Succession:
    """The houses of this process."""
    succession: Succession = request.scope["penstock.succession"]
    return succession


Houses = Annotated[Succession, Depends(succession_of)]


@router.post("/reload", summary="Load the configuration anew")
async def reload(houses: Houses, actor: Administrator) -> Any:
    """Load the file anew, or what was pushed to the state, here and in all processes that share the state.

    A bad one leaves the present one in force: 400 tells its mistake with file, line and key.
    """
    try:
        look = await houses.reload(actor=actor)
    except SettingsError as error:
        return _refused(houses, error)
    await houses.call_all(actor)
    return _told(houses, look, "reloaded" if look.changed else "is in force as it stands")


@router.post("/rollback", summary="Go back to an earlier version of the configuration")
async def rollback(houses: Houses, actor: Administrator, wanted: Rollback | None = None) -> Any:
    """Go back to a version of ``/v1/config/history``, or to the one before, here and wherever the same one is in force.

    It stays so until the file says something new, or something is pushed.
    """
    try:
        look = await houses.roll_back(wanted.version if wanted else None, actor)
    except SettingsError as error:
        return _refused(houses, error)
    return _told(houses, look, "rolled back" if look.changed else "is in force already")


@router.get("/status", dependencies=[Depends(administrator)], summary="Which configuration is in force")
async def status(houses: Houses) -> dict[str, Any]:
    """The configuration of the process that answers, and what is wrong with the one that was found last, if it is."""
    house, problem = houses.house, houses.problem
    told = house.settings
    providers = told.document.providers
    return {
        "status": "invalid" if problem else "valid",
        "version": told.version,
        "config_version": _called(houses),
        "source": told.source.name if told.source else None,
        "last_loaded": int(houses.loaded_at),
        "load_time_ms": _milliseconds(houses.load_time),
        "file_size_bytes": len(told.source.text.encode()) if told.source else 0,
        "providers_configured": len(house.registry.providers() if providers is None else providers),
        "validation_errors": [_mistake(problem)] if problem else [],
        "needs_restart": list(houses.needs_restart),
        "cache_status": cache_status(house.caches),
    }


@router.get("/history", dependencies=[Depends(administrator)], summary="The configurations that the state keeps")
async def history(houses: Houses, limit: Annotated[int, Query(ge=1, le=MOST)] = MOST) -> dict[str, Any]:
    """Every version, the newest first; the texts are at ``/v1/config/history/{version}``."""
    present = houses.house.settings.version
    return {
        "object": "list",
        "data": [_shown(version, present) for version in await houses.documents.history(limit)],
        "present": present,
    }


@router.get("/history/{version}", dependencies=[Depends(administrator)], summary="One configuration, with its text")
async def version(houses: Houses, version: Version) -> dict[str, Any]:
    """What the state keeps of a configuration: of callers' keys their hashes, and no other secret."""
    found = await houses.documents.find(version)
    return {**_shown(found, houses.house.settings.version), "text": found.text}


def _told(houses: Succession, look: Look, what: str) -> dict[str, Any]:
    name = f"Configuration {look.version}" if look.version else "Configuration"
    message = f"{name} {what}" if what.startswith("is") else f"Configuration {what} successfully"
    if look.needs_restart:
        message += f"; {', '.join(look.needs_restart)} will hold from the next start on"
    return {
        "success": True,
        "message": message,
        "reload_time_ms": _milliseconds(look.seconds),
        "config_version": _called(houses),
        "changes_detected": look.changed,
        "version": look.version,
        "needs_restart": list(look.needs_restart),
    }


def _refused(houses: Succession, error: SettingsError) -> Response:
    told = {
        **error_document(InvalidRequest(str(error))),
        "success": False,
        "message": f"The configuration stays as it is: {error}",
        "reload_time_ms": 0.0,
        "config_version": _called(houses),
        "changes_detected": True,
        "version": houses.house.settings.version,
        "errors": [_mistake(error)],
    }
    return Response(to_json(told), 400, media_type="application/json")


def _mistake(error: SettingsError) -> dict[str, Any]:
    file, _, line = (error.where or "").rpartition(":")
    placed = line.isdigit() and bool(file)
    return {
        "file": file if placed else error.where,
        "line": int(line) if placed else None,
        "key": error.setting,
        "message": error.message.removeprefix(f"{error.where}: ").removeprefix(f"{error.setting}: "),
    }


def _called(houses: Succession) -> str:
    """The document's own word for its version, or else its number."""
    told = houses.house.settings
    return told.document.app.version or str(told.version)


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 1)


def _shown(version: ConfigVersion, present: int) -> dict[str, Any]:
    return {
        "version": version.number,
        "sha256": version.sha256,
        "origin": version.origin,
        "actor": version.actor,
        "created_at": version.created_at,
        "loaded_at": version.loaded_at,
        "bytes": len(version.text.encode()),
        "present": version.number == present,
    }
