"""Looks at the rules' numbers, one process for all, and has told what they say."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from penstock.core.alerts.judging import judge, waits
from penstock.core.alerts.teller import Teller
from penstock.core.chore import Chore
from penstock.core.counters import Counter
from penstock.core.ports import Store
from penstock.errors import StateConflict
from penstock.schema.alert import FIRING, RESOLVED, Rule, Watch

log = logging.getLogger("penstock.alerts")

DUTY = "alerts"
KEPT_FOR = 7 * 86_400.0
"""Seconds for which alerts are kept whose rule is gone."""
MINUTE = 60.0

CHANGED = Counter(
    "penstock_alerts_total", "Alerts that began to fire, or were resolved, as this process found.", ("severity", "to")
)

Read = Callable[[float], Awaitable[Mapping[str, float]]]
"""The gateway's numbers over a window of so many seconds, by their paths. What is not known is not there."""
Take = Callable[[str, float], Awaitable[bool]]
"""Whether this process has a duty for so many seconds."""


class Round(NamedTuple):
    """What one round did: how many rules it looked at, and how often it tried to tell somebody."""

    looked: int
    told: int


class Watchman(Chore):
    """Looks every ``interval`` seconds where it has the duty. ``configured`` rules stand before those in the store."""

    def __init__(
        self, store: Store, teller: Teller, read: Read, take: Take, configured: Mapping[str, Rule], *, interval: float
    ) -> None:
        super().__init__(interval)
        self._store = store
        self._teller = teller
        self._read = read
        self._take = take
        self._configured = configured
        self._interval = interval

    async def turn(self) -> object:
        """Look, unless another process does."""
        return await self._take(DUTY, 2.5 * self._interval) and await self.run()

    async def run(self) -> Round:
        """Look at every rule's number, write what that changes, and tell what is to be told. Raises ``StateError``."""
        found = {watch.name: watch for watch in await self._store.list_watches()}
        watches = [found.get(name) or Watch(name) for name in sorted({*found, *self._configured})]
        rules = {watch.name: rule for watch in watches if (rule := self._configured.get(watch.name, watch.rule))}
        numbers = await self._numbers([rule for rule in rules.values() if rule.enabled])
        judged = []
        for watch in watches:
            rule = rules.get(watch.name)
            value = numbers[rule.window_minutes].get(rule.metric_path) if rule and rule.enabled else None
            judged.append(await self._judged(watch, rule, value))
            await self._forget(watch, rule)
        return Round(len(rules), await self._teller.tell(judged))

    async def _numbers(self, rules: Sequence[Rule]) -> dict[float, Mapping[str, float]]:
        """The numbers over each window that a rule asks for, by its minutes."""
        windows = sorted({rule.window_minutes for rule in rules})
        return {minutes: await self._read(minutes * MINUTE) for minutes in windows}

    async def _judged(self, watch: Watch, rule: Rule | None, value: float | None) -> Watch:
        """The watch as it is after a look. Where somebody else has changed it meanwhile, the next look is in time."""
        after = judge(watch, rule, value, time.time())
        if after is watch:
            return watch
        after = replace(after, revision=watch.revision + 1)
        try:
            await self._store.replace_watch(after)
        except StateConflict:
            return watch
        _note(watch, after)
        return after

    async def _forget(self, watch: Watch, rule: Rule | None) -> None:
        """Forget what is kept under the name of a rule that is gone, some time after its last alert."""
        if rule is None and watch.revision and not watch.open and not waits(watch):
            last = max((alert.resolved_at or 0.0 for alert in watch.alerts), default=0.0)
            if time.time() - last > KEPT_FOR:
                await self._store.remove_watch(watch)


def _note(before: Watch, after: Watch) -> None:
    """Count and log that an alert has begun to fire, or is over."""
    if not after.alerts:
        return
    alert = after.alerts[-1]
    was = next((each.status for each in before.alerts if each.id == alert.id), "")
    if alert.status != was and alert.status in (FIRING, RESOLVED):
        CHANGED.add(alert.severity, alert.status)
        log.info("the alert %s is %s", alert.rule, alert.status, extra={"alert_id": alert.id})
