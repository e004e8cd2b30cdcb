"""What administrators do with rules and alerts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

from penstock.core.alerts.judging import judge
from penstock.core.alerts.revision import revise
from penstock.core.ports import Store
from penstock.errors import CallerError, InvalidRequest, NotFound
from penstock.schema.alert import ACKNOWLEDGED, ACTIVE, FIRING, NAME, RESOLVED, Alert, Rule, Watch, check
from penstock.schema.metric_path import nearest

MOST = 200
"""Rules that may be made over the API."""


class AlertConflict(CallerError):
    """A rule's name is taken or its configuration's own, or an alert is over."""

    status = 409
    code = "alert_conflict"


class Kept(NamedTuple):
    """A rule, whether it stands in the configuration, and the alert of it that is not over."""

    rule: Rule
    configured: bool
    alert: Alert | None = None


class Rulebook:
    """Rules that stand in the configuration, and those that are made here. ``channels`` are those that can be told
    something, ``possible`` those that a rule may name although nobody has configured them yet.
    """

    def __init__(
        self, store: Store, configured: Mapping[str, Rule], channels: Sequence[str], possible: Sequence[str]
    ) -> None:
        self._store = store
        self._configured = configured
        self._channels = channels
        self._possible = possible

    async def every(self) -> list[Kept]:
        """Every rule, by name."""
        watches = {watch.name: watch for watch in await self._store.list_watches()}
        names = sorted({*watches, *self._configured})
        return [kept for name in names if (kept := self._kept(name, watches.get(name)))]

    async def find(self, name: str) -> Kept:
        """One rule. Raises ``NotFound``."""
        self.refuse_no_name(name)
        kept = self._kept(name, await self._store.find_watch(name))
        if kept is None:
            raise NotFound(f"There is no rule {name!r}.")
        return kept

    async def create(self, rule: Rule) -> Kept:
        """Keep a new rule. Raises ``InvalidRequest``, and ``AlertConflict`` if its name is taken."""
        self._check(rule)
        watches = await self._store.list_watches()
        if sum(watch.rule is not None for watch in watches) >= MOST:
            raise InvalidRequest(f"There are {MOST} rules, which is the most; remove one first.")

        def change(found: Watch) -> Watch:
            if found.rule is not None or found.name in self._configured:
                raise AlertConflict(f"There is a rule {found.name!r} already; PUT /v1/rules/{found.name} changes it.")
            return replace(found, rule=rule)

        await revise(self._store, rule.name, change)
        return Kept(rule, configured=False)

    async def change(self, name: str, values: Mapping[str, Any]) -> Kept:
        """Write other values into a rule. Raises ``NotFound``, ``InvalidRequest``, ``AlertConflict``."""
        self._refuse_configured(name)
        self.refuse_no_name(name)

        def change(found: Watch) -> Watch:
            if found.rule is None:
                raise NotFound(f"There is no rule {name!r}.")
            rule = replace(found.rule, **values)
            self._check(rule)
            return found if rule == found.rule else replace(found, rule=rule)

        after = await revise(self._store, name, change)
        assert after.rule is not None
        return Kept(after.rule, configured=False, alert=after.open)

    async def remove(self, name: str) -> None:
        """Forget a rule; an alert of it that fires is over. Raises ``NotFound`` and ``AlertConflict``."""
        self._refuse_configured(name)
        self.refuse_no_name(name)

        def change(found: Watch) -> Watch:
            if found.rule is None:
                raise NotFound(f"There is no rule {name!r}.")
            return judge(replace(found, rule=None), None, None, time.time())

        after = await revise(self._store, name, change)
        if not after.alerts:
            await self._store.remove_watch(after)

    async def alerts(self, *, severity: str | None = None, statuses: Sequence[str] = ACTIVE) -> list[Alert]:
        """The alerts of these statuses, the newest first."""
        found = [alert for watch in await self._store.list_watches() for alert in watch.alerts]
        wanted = [each for each in found if each.status in statuses and severity in (None, each.severity)]
        return sorted(wanted, key=lambda alert: alert.began_at, reverse=True)

    async def acknowledge(self, id: str, by: str) -> Alert:
        """Note that somebody has seen an alert; again changes nothing. Raises ``NotFound`` and ``AlertConflict``."""
        rule = next((alert.rule for alert in await self.alerts(statuses=(*ACTIVE, RESOLVED)) if alert.id == id), None)
        if rule is None:
            raise NotFound(f"There is no alert {id[:100]!r} that fires or has fired.")

        def change(found: Watch) -> Watch:
            alert = next((each for each in found.alerts if each.id == id), None)
            if alert is None or alert.status not in ACTIVE:
                raise AlertConflict("This alert is over: its condition does not hold any more.")
            if alert.status != FIRING:
                return found
            seen = replace(alert, status=ACKNOWLEDGED, acknowledged_at=time.time(), acknowledged_by=by)
            return replace(found, alerts=tuple(seen if each.id == id else each for each in found.alerts))

        after = await revise(self._store, rule, change)
        return next(alert for alert in after.alerts if alert.id == id)

    def warnings(self, rule: Rule) -> list[str]:
        """What a rule names that is not there yet."""
        return [
            f"The channel {name!r} is not configured here, so that nobody is told by it: see alerts.channels."
            for name in rule.channels
            if name not in self._channels
        ]

    def refuse_no_name(self, name: str) -> None:
        """Raise ``NotFound`` for what can be no rule's name, and perhaps no store's key."""
        if not NAME.fullmatch(name):
            raise NotFound(f"There is no rule {name[:100]!r}.")

    def _kept(self, name: str, watch: Watch | None) -> Kept | None:
        rule = self._configured.get(name) or (watch.rule if watch else None)
        return Kept(rule, name in self._configured, watch.open if watch else None) if rule else None

    def _refuse_configured(self, name: str) -> None:
        if name in self._configured:
            raise AlertConflict(f"The rule {name!r} stands in the configuration: change it there.")

    def _check(self, rule: Rule) -> None:
        try:
            check(rule)
        except ValueError as error:
            field, _, words = str(error).partition(": ")
            raise InvalidRequest(f"{field}: {words}.".replace("?.", "?"), param=field) from None
        known = [*self._channels, *(name for name in self._possible if name not in self._channels)]
        for name in rule.channels:
            if name not in known:
                close = nearest(name, known)
                meant = f"; did you mean {close!r}?" if close else f"; there are {', '.join(known)}."
                raise InvalidRequest(f"channels: there is no channel {name[:64]!r}{meant}", param="channels")


FIELDS = tuple(field.name for field in fields(Rule))
