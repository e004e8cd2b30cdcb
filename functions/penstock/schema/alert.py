"""Alerts: the rules that watch the gateway's numbers, what became of each of them, and who was told."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from penstock.schema.bounds import require
from penstock.schema.metric_path import mistake

Condition = Literal[">", ">=", "<", "<=", "==", "!="]
Severity = Literal["info", "warning", "error", "critical"]

CONDITIONS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
SEVERITIES = ("info", "warning", "error", "critical")

PENDING, FIRING, ACKNOWLEDGED, RESOLVED = "pending", "firing", "acknowledged", "resolved"
OPEN = (PENDING, FIRING, ACKNOWLEDGED)
ACTIVE = (FIRING, ACKNOWLEDGED)

TEST = "test"
"""What is told in the place of an event when somebody wants to see whether it arrives."""

WAITING, SENT, FAILED = "waiting", "sent", "failed"

LOG = "log"
"""The channel that every gateway has."""
BUILT_IN = (LOG, "email", "webhook", "sns")
"""The channels that have sections of their own."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NAMES = "1 to 64 letters, digits, dots, dashes and underscores"
MOST_CHANNELS = 10
_DAY = 24 * 60


@dataclass(frozen=True, slots=True)
class Rule:
    """Raises an alert while ``metric_path``, over the last ``window_minutes``, stands to ``threshold`` as ``condition``
    says, and has done so for ``for_minutes``.

    Its ``channels`` are told when it begins and when it is over; of another beginning within ``cooldown_minutes`` only
    once they have passed, if it still is so.
    """

    name: str
    metric_path: str
    condition: Condition
    threshold: float
    description: str = ""
    severity: Severity = "warning"
    enabled: bool = True
    cooldown_minutes: float = 5.0
    channels: tuple[str, ...] = (LOG,)
    window_minutes: float = 5.0
    for_minutes: float = 0.0

    def holds(self, value: float) -> bool:
        """Whether a value is one to raise an alert for."""
        return CONDITIONS[self.condition](value, self.threshold)


def check(rule: Rule) -> None:
    """Raise ``ValueError``, which begins with the field's name, unless a rule is one that can be kept."""
    wrong = mistake(rule.metric_path)
    require("name", bool(NAME.fullmatch(rule.name)), NAMES)
    require("metric_path", not wrong, wrong)
    require("threshold", abs(rule.threshold) < 1e300, "a finite number")
    require("description", len(rule.description) <= 500, "at most 500 characters")
    require("description", all(char.isprintable() or char in "\n\t" for char in rule.description), "printable text")
    require("cooldown_minutes", 0 <= rule.cooldown_minutes <= 7 * _DAY, "from 0 to 10080 minutes, a week")
    require("window_minutes", 0.1 <= rule.window_minutes <= _DAY, "from 0.1 to 1440 minutes, a day")
    require("for_minutes", 0 <= rule.for_minutes <= _DAY, "from 0 to 1440 minutes, a day")
    require("channels", 0 < len(rule.channels) <= MOST_CHANNELS, f"a list of 1 to {MOST_CHANNELS} channels")
    require("channels", len(set(rule.channels)) == len(rule.channels), "a list that has each name once")
    require("channels", all(map(NAME.fullmatch, rule.channels)), f"names of channels: {NAMES}")


@dataclass(frozen=True, slots=True)
class Telling:
    """One ``event`` of an alert, ``firing`` or ``resolved``, on its way to one channel, under an ``id`` that stays the
    same however often it is tried.

    ``due_at`` is when it is to be tried, or, while a ``sender`` is at it, when that one is taken for dead.
    """

    id: str
    channel: str
    event: str
    status: str = WAITING
    due_at: float | None = None
    sender: str = ""
    tries: int = 0
    ended_at: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Alert:
    """What a rule has found, from the moment on when its condition began to hold. Times are seconds since the epoch.

    ``value`` is the number that it fired for, or was found pending with; ``resolved_value`` the one that ended it.
    ``told`` says that its channels are told of it, and of its end.
    """

    id: str
    rule: str
    description: str
    metric_path: str
    condition: str
    threshold: float
    severity: str
    status: str
    value: float
    began_at: float
    fired_at: float | None = None
    acknowledged_at: float | None = None
    acknowledged_by: str = ""
    resolved_at: float | None = None
    resolved_value: float | None = None
    resolved_because: str = ""
    told: bool = False
    tellings: tuple[Telling, ...] = ()


@dataclass(frozen=True, slots=True)
class Watch:
    """All that is kept under a rule's name: the ``rule``, unless it stands in the configuration or was removed, and its
    alerts, the oldest first. Each change counts the ``revision`` up.

    ``told_at`` is when its channels were last told of a beginning.
    """

    name: str
    revision: int = 0
    rule: Rule | None = None
    alerts: tuple[Alert, ...] = ()
    told_at: float = 0.0

    @property
    def open(self) -> Alert | None:
        """The alert that is not over, if there is one."""
        return self.alerts[-1] if self.alerts and self.alerts[-1].status in OPEN else None


@dataclass(frozen=True, slots=True)
class Message:
    """What a channel is to tell: that this ``alert`` fires, or is over, or would be told like this. ``id`` is its
    telling's: who may be told twice can know it by that.
    """

    id: str
    event: str
    alert: Alert

    @property
    def at(self) -> float:
        """When it happened."""
        alert = self.alert
        return (alert.resolved_at if self.event == RESOLVED else alert.fired_at) or alert.began_at
