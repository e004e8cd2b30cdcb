"""``/api/v1/apikeys``: keys made, listed, changed, rotated and revoked; ``/api/v1/audit``: who did so."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import Query, Response
from pydantic import BaseModel, ConfigDict, Field

from penstock.core.keys import generate, new_key, record_act, rotated
from penstock.core.limits.terms import KEY
from penstock.dialects._exchange import LazyRouter
from penstock.dialects._guard import Administrator, Here
from penstock.errors import InvalidRequest, NotFound
from penstock.house import House
from penstock.schema.key import VirtualKey
from penstock.schema.limit import Budget, Limits, stated, window_ends
from penstock.schema.price import dollars

router = LazyRouter(prefix="/api/v1", tags=["keys"])

Text = Annotated[str, Field(max_length=500)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Scope = Literal["inference", "metrics", "admin"]
DAY = 86_400.0
REMOVABLE = {"expires_at", "limits", "budget"}


Number = Annotated[int, Field(ge=1, le=10**9)]
Dollars = Annotated[float, Field(ge=0, le=10**9)]


class LimitFields(BaseModel):
    """What may be taken with a key, in the place of ``limits.key`` of the configuration. What is left out is without
    limit. ``burst`` is the most requests at once: a sixth of the minute's unless it is said.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    requests_per_minute: Number | None = None
    burst: Number | None = None
    tokens_per_minute: Number | None = None
    concurrency: Number | None = None


class BudgetFields(BaseModel):
    """Dollars that may be spent with a key in a day, an ISO week, a month (of UTC) and altogether, in the place of
    ``budgets.key`` of the configuration.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    daily: Dollars | None = None
    weekly: Dollars | None = None
    monthly: Dollars | None = None
    total: Dollars | None = None


class KeyFields(BaseModel):
    """What may be said of a key. ``models`` are globs of public names, ``providers`` of the names of providers that it
    is pinned to; ``workers`` are all GPU workers. ``expires_at`` is in seconds since the epoch.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    description: Text | None = None
    owner: Text | None = None
    priority: Annotated[int, Field(ge=-1000, le=1000)] | None = None
    scopes: Annotated[list[Scope], Field(min_length=1)] | None = None
    models: Annotated[list[Name], Field(min_length=1, max_length=100)] | None = None
    providers: Annotated[list[Name], Field(min_length=1, max_length=100)] | None = None
    tags: Annotated[list[Name], Field(max_length=50)] | None = None
    expires_at: Annotated[float, Field(gt=0, lt=1e11)] | None = None
    limits: LimitFields | None = None
    budget: BudgetFields | None = None

    def given(self) -> dict[str, Any]:
        """The fields that were sent, as a key's record wants them; ``null`` takes an expiry, limits, a budget away."""
        sent = self.model_dump(exclude_unset=True)
        kept = {name: value for name, value in sent.items() if value is not None or name in REMOVABLE}
        if kept.get("limits") is not None:
            try:
                kept["limits"] = Limits(**kept["limits"])
            except ValueError as error:
                raise InvalidRequest(f"limits.{error}.", param="limits") from None
        if kept.get("budget") is not None:
            kept["budget"] = Budget(**kept["budget"])
        return {name: tuple(value) if isinstance(value, list) else value for name, value in kept.items()}


class Rotation(BaseModel):
    """How long the key before the rotation still opens: ``grace_seconds``, at most 30 days."""

    model_config = ConfigDict(extra="forbid", strict=True)

    grace_seconds: Annotated[float, Field(ge=0, le=30 * DAY)] = DAY


@router.post("/apikeys", status_code=201, summary="Make a key; it is shown this once")
async def create_key(fields: KeyFields, house: Here, actor: Administrator, response: Response) -> dict[str, Any]:
    """Make a key, good at once in every process."""
    response.headers["cache-control"] = "no-store"
    secret = generate()
    key = new_key(secret, **fields.given())
    await record_act(house.store, actor, "create key", key.id, _names(fields))
    await house.store.create_key(key)
    return {"api_key": secret.reveal(), **_shown(key)}


@router.get("/apikeys", summary="List keys, without the keys themselves")
async def list_keys(house: Here, actor: Administrator) -> dict[str, Any]:
    """Every key, oldest first, revoked ones included."""
    return {"object": "list", "data": [_shown(key) for key in await house.store.list_keys()]}


@router.get("/apikeys/{key_id}", summary="Describe a key")
async def read_key(key_id: str, house: Here, actor: Administrator) -> dict[str, Any]:
    """One key, without the key itself, and what is left of its budget."""
    key = await _found(house, key_id)
    meter = await house.store.read_meter(f"{KEY}#{key.id}")
    budget = key.budget or house.limiter.plan.key_budget
    ceilings = budget.ceilings(time.time())
    return _shown(key) | {
        "spending": [_spending(window, most, meter.spent.get(window, 0)) for window, most in ceilings]
    }


@router.patch("/apikeys/{key_id}", summary="Change a key")
async def change_key(key_id: str, fields: KeyFields, house: Here, actor: Administrator) -> dict[str, Any]:
    """Change the fields that are sent; every process obeys within 5 seconds."""
    key = await _found(house, key_id, active=True)
    changed = replace(key, revision=key.revision + 1, **fields.given())
    await record_act(house.store, actor, "change key", key_id, _names(fields))
    await house.store.replace_key(changed)
    return _shown(changed)


@router.post("/apikeys/{key_id}/rotate", summary="Put a new key in the place of one; it is shown this once")
async def rotate_key(
    key_id: str, house: Here, actor: Administrator, response: Response, rotation: Rotation | None = None
) -> dict[str, Any]:
    """The new key is good at once, the one before for its grace."""
    response.headers["cache-control"] = "no-store"
    grace = (rotation or Rotation()).grace_seconds
    secret = generate()
    key = rotated(await _found(house, key_id, active=True), secret, until=time.time() + grace)
    await record_act(house.store, actor, "rotate key", key_id, f"grace {grace:g} s")
    await house.store.replace_key(key)
    return {"api_key": secret.reveal(), **_shown(key)}


@router.delete("/apikeys/{key_id}", summary="Revoke a key for good")
async def revoke_key(key_id: str, house: Here, actor: Administrator) -> dict[str, Any]:
    """Revoke a key; every process refuses it within 5 seconds. It stays in the list."""
    await _found(house, key_id)
    await record_act(house.store, actor, "revoke key", key_id)
    key = await house.store.revoke_key(key_id, time.time())
    assert key is not None
    return _shown(key)


@router.get("/audit", summary="Who did what")
async def audit(house: Here, actor: Administrator, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> dict[str, Any]:
    """The newest administrative acts first."""
    acts = await house.store.list_acts(limit=limit)
    names = ("id", "at", "actor", "action", "target", "detail")
    return {"object": "list", "data": [{name: getattr(act, name) for name in names} for act in acts]}


async def _found(house: House, key_id: str, *, active: bool = False) -> VirtualKey:
    key = await house.store.read_key(key_id)
    if key is None:
        raise NotFound(f"There is no key {key_id!r}.", param="key_id")
    if active and key.revoked_at is not None:
        raise InvalidRequest(f"The key {key_id!r} is revoked, and stays so.", param="key_id")
    return key


def _names(fields: KeyFields) -> str:
    return ", ".join(sorted(fields.given()))


def _spending(window: str, most: int, spent: int) -> dict[str, Any]:
    """A window of a budget, in dollars; what requests under way have reserved counts as spent."""
    return {
        "window": window,
        "budget": dollars(most),
        "spent": dollars(spent),
        "remaining": dollars(most - spent),
        "renewed_at": window_ends(window),
    }


def _shown(key: VirtualKey) -> dict[str, Any]:
    now = time.time()
    status = "revoked" if key.revoked_at is not None else "active" if key.active(now) else "expired"
    return {
        "id": key.id,
        "object": "api_key",
        "status": status,
        "hint": key.hint,
        "description": key.description,
        "owner": key.owner,
        "priority": key.priority,
        "scopes": key.scopes,
        "models": key.models,
        "providers": key.providers,
        "tags": key.tags,
        "created_at": key.created_at,
        "limits": stated(key.limits),
        "budget": stated(key.budget),
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "rotation_ends_at": key.previous_until if key.previous_until > now else None,
    }
