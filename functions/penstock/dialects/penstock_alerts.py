"""``/v1/rules`` and ``/v1/alerts``: what the gateway watches of itself, and what it has found."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from penstock.core.alerts.rulebook import FIELDS, Kept
from penstock.core.alerts.words import document
from penstock.core.keys import record_act
from penstock.dialects._address import is_trusted
from penstock.dialects._exchange import Exchange, LazyRouter
from penstock.dialects._guard import Administrator, Here
from penstock.dialects._presented import presented_key
from penstock.errors import InvalidRequest, PermissionDenied
from penstock.house import House
from penstock.schema.alert import ACTIVE, FIRING, MOST_CHANNELS, WAITING, Alert, Condition, Rule, Severity
from penstock.schema.key import ADMIN, METRICS

router = LazyRouter(prefix="/v1", tags=["alerts"])

Name = Annotated[str, Field(min_length=1, max_length=64)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Status = Literal["active", "pending", "firing", "acknowledged", "resolved"]


class RuleChange(BaseModel):
    """What is to be different about a rule."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Name | None = None
    description: Annotated[str, Field(max_length=500)] | None = None
    metric_path: Annotated[str, Field(min_length=1, max_length=300)] | None = None
    condition: Condition | None = None
    threshold: Number | None = None
    severity: Severity | None = None
    enabled: bool | None = None
    cooldown_minutes: Number | None = None
    channels: Annotated[list[Name], Field(min_length=1, max_length=MOST_CHANNELS)] | None = None
    window_minutes: Number | None = None
    for_minutes: Number | None = None

    def values(self) -> dict[str, Any]:
        """The fields that were sent, as a rule holds them."""
        sent = self.model_dump(exclude_none=True)
        return sent | ({"channels": tuple(sent["channels"])} if "channels" in sent else {})


class NewRule(RuleChange):
    """A rule: raise an alert while this metric stands to this threshold as the condition says."""

    name: Name
    metric_path: Annotated[str, Field(min_length=1, max_length=300)]
    condition: Condition
    threshold: Number


async def reader(request: Request) -> None:
    """Admit callers from trusted networks, and keys with the scope ``metrics`` or ``admin`` from anywhere."""
    exchange: Exchange = request.scope["penstock.exchange"]
    if is_trusted(exchange):
        return
    house: House = exchange.house
    if house.settings.document.auth.mode == "none":
        raise PermissionDenied("Alerts are for trusted networks, or for a key of the scope 'metrics' or 'admin'.")
    caller = await house.keyring.authenticate(presented_key(exchange), None)
    if not {METRICS, ADMIN} & set(caller.scopes):
        raise PermissionDenied("This API key lacks the scope 'metrics' or 'admin'.")


@router.get("/alerts", dependencies=[Depends(reader)], summary="List alerts")
async def list_alerts(
    house: Here,
    severity: Annotated[Severity | None, Query()] = None,
    status: Annotated[Status | None, Query()] = None,
) -> dict[str, Any]:
    """Those that fire and those that somebody has acknowledged, the newest first; or those of one status. ``active`` is
    another word for ``firing``.
    """
    statuses = ACTIVE if status is None else (FIRING if status == "active" else status,)
    found = await house.alerts.rulebook.alerts(severity=severity, statuses=statuses)
    return {"object": "list", "data": [_alert(alert) for alert in found], "total": len(found)}


@router.post("/alerts/{alert_id}/acknowledge", summary="Say that somebody has seen an alert")
async def acknowledge(alert_id: str, house: Here, actor: Administrator) -> dict[str, Any]:
    """It is told as acknowledged until its condition holds no more."""
    await record_act(house.store, actor, "acknowledge alert", alert_id[:100])
    return _alert(await house.alerts.rulebook.acknowledge(alert_id, actor))


@router.post("/rules", status_code=201, summary="Make an alert rule")
async def create_rule(new: NewRule, house: Here, actor: Administrator) -> dict[str, Any]:
    """It is looked at from now on."""
    rule = Rule(**new.values())
    await record_act(house.store, actor, "create rule", rule.name)
    return _rule(house, await house.alerts.rulebook.create(rule))


@router.get("/rules", dependencies=[Depends(reader)], summary="List alert rules")
async def list_rules(house: Here) -> dict[str, Any]:
    """Those of the configuration and those made here, by name."""
    found = await house.alerts.rulebook.every()
    return {"object": "list", "data": [_rule(house, kept) for kept in found], "total": len(found)}


@router.get("/rules/{rule_name}", dependencies=[Depends(reader)], summary="Describe an alert rule")
async def read_rule(rule_name: str, house: Here) -> dict[str, Any]:
    """One rule, and the state that it is in."""
    return _rule(house, await house.alerts.rulebook.find(rule_name))


@router.put("/rules/{rule_name}", summary="Change an alert rule")
async def change_rule(rule_name: str, change: RuleChange, house: Here, actor: Administrator) -> dict[str, Any]:
    """Change the fields that are sent; the name stays."""
    values = change.values()
    if values.pop("name", rule_name) != rule_name:
        raise InvalidRequest("name: a rule keeps its name; make another one.", param="name")
    house.alerts.rulebook.refuse_no_name(rule_name)
    await record_act(house.store, actor, "change rule", rule_name, ", ".join(sorted(values)))
    return _rule(house, await house.alerts.rulebook.change(rule_name, values))


@router.delete("/rules/{rule_name}", summary="Remove an alert rule")
async def remove_rule(rule_name: str, house: Here, actor: Administrator) -> dict[str, Any]:
    """An alert of it that fires is resolved."""
    house.alerts.rulebook.refuse_no_name(rule_name)
    await record_act(house.store, actor, "remove rule", rule_name)
    await house.alerts.rulebook.remove(rule_name)
    return {"name": rule_name, "object": "alert.rule", "deleted": True}


@router.post("/rules/{rule_name}/test", summary="Tell a rule's channels a test, and say what came of it")
async def test_rule(rule_name: str, house: Here, actor: Administrator) -> dict[str, Any]:
    """One try each, now; nothing is kept of it."""
    kept = await house.alerts.rulebook.find(rule_name)
    told = await house.alerts.teller.test(kept.rule)
    return {
        "object": "alert.test",
        "rule": rule_name,
        "notifications": [
            {"channel": name, "status": "failed" if reason else "sent", "reason": reason or None}
            for name, reason in told
        ],
    }


def _rule(house: House, kept: Kept) -> dict[str, Any]:
    told: dict[str, Any] = {"object": "alert.rule", **{name: getattr(kept.rule, name) for name in FIELDS}}
    told["source"] = "config" if kept.configured else "api"
    told["state"] = kept.alert.status if kept.alert else "ok"
    told["alert_id"] = kept.alert.id if kept.alert else None
    if warnings := house.alerts.rulebook.warnings(kept.rule):
        told["warnings"] = warnings
    return told


def _alert(alert: Alert) -> dict[str, Any]:
    notifications = [
        {
            "id": telling.id,
            "channel": telling.channel,
            "event": telling.event,
            "status": telling.status,
            "tries": telling.tries,
            "ended_at": telling.ended_at,
            "next_try_at": telling.due_at if telling.status == WAITING else None,
            "reason": telling.reason or None,
        }
        for telling in alert.tellings
    ]
    return {**document(alert), "notifications": notifications}
