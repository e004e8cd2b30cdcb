"""What channels are told in tests."""

from __future__ import annotations

from dataclasses import replace

from penstock.schema.alert import FIRING, RESOLVED, Alert, Message

ALERT = Alert(
    id="alert_1",
    rule="slow",
    description="too many errors — look at it",
    metric_path="summary.error_rate",
    condition=">",
    threshold=0.05,
    severity="warning",
    status=FIRING,
    value=0.5,
    began_at=1_800_000_000.0,
    fired_at=1_800_000_060.0,
)


def firing() -> Message:
    """That an alert has begun."""
    return Message("tell_1", FIRING, ALERT)


def resolved() -> Message:
    """That it is over."""
    return Message(
        "tell_2", RESOLVED, replace(ALERT, status=RESOLVED, resolved_at=1_800_000_120.0, resolved_value=0.01)
    )
