"""The log: a line for each alert that fires, and for its end. Every gateway has this channel."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from penstock.channels._tools import Tools
from penstock.core.alerts.words import subject
from penstock.schema.alert import FIRING, Message

log = logging.getLogger("penstock.alerts")

LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR, "critical": logging.CRITICAL}


@dataclass(frozen=True, slots=True)
class LogSection:
    """Nothing to say."""


SECTION = LogSection


class LogChannel:
    """Writes to the log of the process that tells."""

    async def tell(self, message: Message, *, timeout: float) -> None:
        """Write one line."""
        alert = message.alert
        level = LEVELS[alert.severity] if message.event == FIRING else logging.INFO
        known = {"telling_id": message.id, "alert_id": alert.id, "rule": alert.rule, "event": message.event}
        known |= {"metric_path": alert.metric_path, "severity": alert.severity}
        log.log(level, "%s", subject(message), extra=known)

    async def aclose(self) -> None:
        """Nothing: it holds nothing."""


def connect(section: LogSection, tools: Tools) -> LogChannel:
    """The channel."""
    return LogChannel()
