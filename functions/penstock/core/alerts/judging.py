"""What becomes of an alert when its rule's number is looked at: the whole state machine, without a clock or a store.

    nothing ── holds ──▶ pending ── for long enough ──▶ firing ── somebody has seen it ──▶ acknowledged
       ▲                    │                              │                                    │
       └── holds no more ───┘                              └── holds no more ──▶ resolved ◀─────┘

Where there is no number, nothing changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256

from penstock.schema.alert import FIRING, PENDING, RESOLVED, WAITING, Alert, Rule, Telling, Watch

MINUTE = 60.0
KEPT = 20
"""Alerts that are kept of one rule, the newest."""


def judge(watch: Watch, rule: Rule | None, value: float | None, now: float) -> Watch:
    """The watch as it is after its ``rule`` was looked at; the very same one where nothing has changed."""
    alert = watch.open
    if rule is None or not rule.enabled:
        because = "its rule was removed" if rule is None else "its rule was switched off"
        return watch if alert is None else _over(watch, alert, None, because, now)
    if value is None:
        return watch
    if not rule.holds(value):
        return watch if alert is None else _over(watch, alert, value, "", now)
    if alert is None:
        alert = begun(rule, value, now)
        watch = replace(watch, alerts=(*watch.alerts, alert)[-KEPT:])
    if alert.status == PENDING and now - alert.began_at >= rule.for_minutes * MINUTE:
        alert = replace(alert, status=FIRING, fired_at=now, value=value, severity=rule.severity)
        watch = _with(watch, alert)
    if alert.status == FIRING and not alert.told and now - watch.told_at >= rule.cooldown_minutes * MINUTE:
        alert = replace(alert, told=True, tellings=_tellings(alert, FIRING, rule.channels, now))
        watch = replace(_with(watch, alert), told_at=now)
    return watch


def due(watch: Watch, now: float) -> list[tuple[Alert, Telling]]:
    """What is to be told now: of one alert to one channel one thing after the other."""
    found = []
    for alert in watch.alerts:
        busy: set[str] = set()
        for telling in alert.tellings:
            if telling.status == WAITING and telling.channel not in busy:
                busy.add(telling.channel)
                if telling.due_at is not None and telling.due_at <= now:
                    found.append((alert, telling))
    return found


def waits(watch: Watch) -> bool:
    """Whether something of the watch is still to be told."""
    return any(telling.status == WAITING for alert in watch.alerts for telling in alert.tellings)


def with_tellings(watch: Watch, changed: Iterable[Telling]) -> Watch:
    """The watch with these tellings in the place of those that have their ids."""
    by_id = {telling.id: telling for telling in changed}
    alerts = (
        replace(alert, tellings=tuple(by_id.get(telling.id, telling) for telling in alert.tellings))
        for alert in watch.alerts
    )
    return replace(watch, alerts=tuple(alerts))


def begun(rule: Rule, value: float, now: float) -> Alert:
    """The alert of a rule that has just been found to hold."""
    return Alert(
        id="alert_" + _digest(rule.name, repr(now)),
        rule=rule.name,
        description=rule.description,
        metric_path=rule.metric_path,
        condition=rule.condition,
        threshold=rule.threshold,
        severity=rule.severity,
        status=PENDING,
        value=value,
        began_at=now,
    )


def _over(watch: Watch, alert: Alert, value: float | None, because: str, now: float) -> Watch:
    """The watch once its alert is over; one that was only pending never was one."""
    if alert.status == PENDING:
        return replace(watch, alerts=watch.alerts[:-1])
    channels = [telling.channel for telling in alert.tellings]
    return _with(
        watch,
        replace(
            alert,
            status=RESOLVED,
            resolved_at=now,
            resolved_value=value,
            resolved_because=because,
            tellings=(*alert.tellings, *_tellings(alert, RESOLVED, channels, now)),
        ),
    )


def _tellings(alert: Alert, event: str, channels: Iterable[str], now: float) -> tuple[Telling, ...]:
    return tuple(
        Telling("tell_" + _digest(alert.id, event, channel), channel, event, due_at=now) for channel in channels
    )


def _with(watch: Watch, alert: Alert) -> Watch:
    return replace(watch, alerts=(*watch.alerts[:-1], alert))


def _digest(*parts: str) -> str:
    return sha256("\0".join(parts).encode()).hexdigest()[:24]
