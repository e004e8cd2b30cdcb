"""``GET /v1/usage``: what was asked, how many tokens it took and what it cost, by day, key and model."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any

from fastapi import Depends, Query, Request

from penstock.core.usage import DAY, Sums, number_day
from penstock.dialects._exchange import LazyRouter
from penstock.dialects._guard import Here, administrator, guard
from penstock.errors import InvalidRequest, PermissionDenied
from penstock.schema.key import INFERENCE
from penstock.schema.price import dollars
from penstock.schema.usage import UsageLine

router = LazyRouter(tags=["usage"])

LONGEST = 92
"""Days that one answer covers at most."""
COLUMNS = {"day": ("day",), "key": ("key_id", "owner"), "owner": ("owner",), "model": ("model",)}
"""What a group is told by: a key is told with its owner."""
DEFAULT_GROUPS = ["day", "key", "model"]
GROUP = ("day", "key_id", "owner", "model")
COUNTED = ("requests", "failed", "prompt_tokens", "cached_tokens", "completion_tokens")
NOTHING = UsageLine("", "", "", "")


async def visible_key(request: Request) -> str | None:
    """The id of the one key whose usage a caller may see; ``None`` for an administrator, who sees all."""
    try:
        await administrator(request)
    except PermissionDenied:
        return (await guard(INFERENCE)(request)).key_id
    return None


@router.get("/v1/usage", summary="Requests, tokens and dollars by day, key and model")
async def usage(
    house: Here,
    own: Annotated[str | None, Depends(visible_key)],
    *,
    start: Annotated[str | None, Query(description="the first day; default: the first of the last day's month")] = None,
    end: Annotated[str | None, Query(description="the last day, included; default: today")] = None,
    key_id: Annotated[str | None, Query(max_length=200, description="one key alone")] = None,
    group_by: Annotated[list[str], Query(description="of day, key, owner and model, with commas")] = DEFAULT_GROUPS,
) -> dict[str, Any]:
    """What the ledger holds of these days (UTC), summed up. Administrators see every key, everybody else his own."""
    first, last = _days(start, end)
    columns = _columns(group_by)
    if own is not None and key_id not in (None, own):
        raise PermissionDenied("Only an administrator sees what other keys use.", param="key_id")
    since, until = float(number_day(first) * DAY), float((number_day(last) + 1) * DAY)
    lines = await house.store.sum_usage(since=since, until=until, key_id=key_id if own is None else own)
    return {
        "object": "list",
        "data": [_shown(line, columns) for line in _grouped(lines, columns)],
        "total": _shown(next(iter(_grouped(lines, ())), NOTHING), ()),
        "start": first.isoformat(),
        "end": last.isoformat(),
        "prices_version": house.prices.version,
    }


def _days(start: str | None, end: str | None) -> tuple[date, date]:
    """The first and the last day that are asked for."""
    last = _day("end", end) if end is not None else datetime.now(UTC).date()
    first = _day("start", start) if start is not None else last.replace(day=1)
    if first > last:
        raise InvalidRequest(f"start: {first} is after the end, {last}.", param="start")
    if (last - first).days >= LONGEST:
        raise InvalidRequest(f"start: {first} to {last} are more than {LONGEST} days; ask in parts.", param="start")
    return first, last


def _day(name: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(f"{name}: {text[:40]!r} is no day; write it as 2026-11-21.", param=name) from None


def _columns(group_by: list[str]) -> tuple[str, ...]:
    groups = {name.strip() for text in group_by for name in text.split(",")}
    if unknown := sorted(groups - set(COLUMNS)):
        known = ", ".join(COLUMNS)
        raise InvalidRequest(f"group_by: there is no {unknown[0][:40]!r}; there are {known}.", param="group_by")
    wanted = {column for group in groups for column in COLUMNS[group]}
    return tuple(column for column in GROUP if column in wanted)


def _grouped(lines: list[UsageLine], columns: tuple[str, ...]) -> list[UsageLine]:
    """The lines summed up by these columns alone; the others are left empty."""
    sums = Sums()
    for line in lines:
        day, key_id, owner, model = (getattr(line, column) if column in columns else "" for column in GROUP)
        sums.add((day, key_id, owner, model), [getattr(line, name) for name in (*COUNTED, "cost_nanos", "unpriced")])
    return sums.lines()


def _shown(line: UsageLine, columns: tuple[str, ...]) -> dict[str, Any]:
    shown = {name: getattr(line, name) for name in (*columns, *COUNTED)}
    return shown | {"cost": dollars(line.cost_nanos), "unpriced": line.unpriced}
