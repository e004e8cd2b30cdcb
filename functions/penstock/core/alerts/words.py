"""An alert in words, and as a document: what every channel tells of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from penstock.schema.alert import FIRING, RESOLVED, TEST, Alert, Message


def subject(message: Message) -> str:
    """One line that says it all."""
    alert, firing = message.alert, message.event == FIRING
    if message.event == TEST:
        return f"[TEST] {alert.rule}: would be told like this; nothing has happened"
    if firing:
        return f"[{alert.severity.upper()}] {alert.rule}: {_found(alert, alert.value)}"
    told = alert.resolved_because or _found(alert, alert.resolved_value)
    return f"[RESOLVED] {alert.rule}: {told}"


def text(message: Message) -> str:
    """Some lines for a person."""
    alert = message.alert
    lines = [subject(message), *([alert.description] if alert.description else []), ""]
    lines += [f"{name}: {value}" for name, value in facts(message)]
    return "\n".join(lines)


def facts(message: Message) -> list[tuple[str, str]]:
    """What there is to know, each with its name."""
    alert = message.alert
    known = [
        ("Alert", alert.id),
        ("Severity", alert.severity),
        ("Metric", f"{alert.metric_path} {alert.condition} {alert.threshold:g}"),
        ("Value", f"{alert.value:g}"),
        ("Since", _when(alert.began_at)),
    ]
    if message.event == RESOLVED and alert.resolved_at is not None:
        known.append(("Resolved", _when(alert.resolved_at)))
    return known


def document(alert: Alert) -> dict[str, Any]:
    """The alert as the API and webhooks tell it."""
    return {
        "id": alert.id,
        "object": "alert",
        "rule": alert.rule,
        "description": alert.description,
        "severity": alert.severity,
        "status": alert.status,
        "metric_path": alert.metric_path,
        "condition": alert.condition,
        "threshold": alert.threshold,
        "value": alert.value,
        "began_at": alert.began_at,
        "fired_at": alert.fired_at,
        "acknowledged_at": alert.acknowledged_at,
        "acknowledged_by": alert.acknowledged_by or None,
        "resolved_at": alert.resolved_at,
        "resolved_value": alert.resolved_value,
        "resolved_because": alert.resolved_because or None,
    }


def _found(alert: Alert, value: float | None) -> str:
    shown = "" if value is None else f" is {value:g}"
    return f"{alert.metric_path}{shown} (alert when {alert.condition} {alert.threshold:g})"


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
