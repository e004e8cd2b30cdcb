"""Tells channels of alerts: each event once at a time by one process at a time, again after a failure."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from penstock.core.alerts.judging import begun, due, with_tellings
from penstock.core.alerts.revision import revise
from penstock.core.counters import Counter
from penstock.core.ports import Channel, Store
from penstock.errors import UpstreamError, UpstreamTimeout
from penstock.schema.alert import FAILED, SENT, TEST, Alert, Message, Rule, Telling, Watch

log = logging.getLogger("penstock.alerts")

PAUSES = (5.0, 30.0, 120.0, 300.0, 900.0, 1800.0, 3600.0, 3600.0, 3600.0, 3600.0)
"""Seconds after each failure until the next try: after the last of them, about five hours, it is over."""
JITTER = 0.1
MARGIN = 15.0
"""Seconds beyond a channel's time that a sender has to write what came of it, until it is taken for dead."""
SLACK = 1.0
"""Seconds beyond its time after which a channel is cut off that did not keep to it."""
GRACE = 5.0
"""Seconds that those who are being told have when the process ends."""
AT_ONCE = 16
"""Rules whose channels are told at the same time."""
LONGEST = 10.0
"""Seconds after which a turn begins to tell of no further rule: a function has a minute for all its chores."""
KEPT = 300
"""Characters that are kept of why a telling failed."""

TOLD = Counter("penstock_alert_tellings_total", "Tries to tell a channel of an alert.", ("channel", "result"))

T = TypeVar("T")
Open = Callable[[str], Channel | None]


class Teller:
    """Tells what is due. ``open_channel`` knows a channel by its name; each is given ``timeout`` seconds."""

    def __init__(self, store: Store, open_channel: Open, *, timeout: float) -> None:
        self._store = store
        self._open = open_channel
        self._timeout = timeout
        self._channels: dict[str, Channel | None] = {}
        self._under_way: set[asyncio.Task[int]] = set()

    async def tell(self, watches: Sequence[Watch]) -> int:
        """Tell what is due of these, all channels at once; answers how many tries that took. Raises ``StateError``.

        What this process does not live to note is told again by the next one, under the same id. So who is not waited
        for any more goes on until ``close``.
        """
        task = asyncio.ensure_future(self._tell_all(watches))
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        await asyncio.wait([task])
        return task.result()

    async def test(self, rule: Rule) -> list[tuple[str, str]]:
        """Tell each of a rule's channels a test; answers them with why they could not be told, empty if they were."""
        now = time.time()
        alert = replace(begun(rule, rule.threshold, now), id="alert_test")
        tellings = [Telling(f"test_{secrets.token_hex(12)}", name, TEST) for name in rule.channels]
        reasons = await asyncio.gather(*(self._reason(alert, telling) for telling in tellings))
        return list(zip(rule.channels, reasons, strict=True))

    async def close(self) -> None:
        """Let what is under way end, and let go of the channels."""
        left = tuple(self._under_way)
        if left:
            await asyncio.wait(left, timeout=GRACE)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for channel in self._channels.values():
            if channel is not None:
                await channel.aclose()

    def _ended(self, task: asyncio.Task[int]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.debug("not all was told: %s", error)  # who waits for it is told as well

    async def _tell_all(self, watches: Sequence[Watch]) -> int:
        room, until = asyncio.Semaphore(AT_ONCE), time.monotonic() + LONGEST

        async def in_turn(watch: Watch) -> int:
            async with room:
                return await self._tell_of(watch) if time.monotonic() < until else 0

        tasks = [asyncio.ensure_future(in_turn(watch)) for watch in watches if due(watch, time.time())]
        return sum(await _all_of(tasks))

    async def _tell_of(self, watch: Watch) -> int:
        """Take what is due of a watch, and try it."""
        me, now = secrets.token_hex(8), time.time()

        def claim(found: Watch) -> Watch:
            taken = [replace(each, sender=me, due_at=now + self._timeout + MARGIN) for _, each in due(found, now)]
            return with_tellings(found, taken) if taken else found

        claimed = await revise(self._store, watch.name, claim)
        mine = [(alert, each) for alert in claimed.alerts for each in alert.tellings if each.sender == me]
        await _all_of([asyncio.ensure_future(self._tell(alert, telling)) for alert, telling in mine])
        return len(mine)

    async def _tell(self, alert: Alert, telling: Telling) -> None:
        """Try once, and write what came of it. Raises ``StateError``."""
        reason = await self._reason(alert, telling)
        TOLD.add(telling.channel, "failed" if reason else "sent")
        if reason:
            log.warning("%s could not be told of the alert %s: %s", telling.channel, alert.rule, reason)
        after = _after(telling, reason[:KEPT], time.time())

        def settle(found: Watch) -> Watch:
            held = any(each.sender == telling.sender and each.id == telling.id for each in _all(found))
            return with_tellings(found, [after]) if held else found

        await revise(self._store, alert.rule, settle)

    async def _reason(self, alert: Alert, telling: Telling) -> str:
        """Why a channel could not be told; empty if it was."""
        if telling.channel not in self._channels:
            self._channels[telling.channel] = self._open(telling.channel)
        channel = self._channels[telling.channel]
        if channel is None:
            return "it is not configured here"
        message = Message(telling.id, telling.event, alert)
        work = asyncio.ensure_future(channel.tell(message, timeout=self._timeout))
        try:
            await asyncio.wait([work], timeout=self._timeout + SLACK)
        finally:
            work.cancel()
        if not work.done() or isinstance(error := work.exception(), UpstreamTimeout | TimeoutError):
            return f"no answer within {self._timeout:g} seconds"
        if isinstance(error, UpstreamError):
            return error.message
        if error is not None:  # a plug may have come from elsewhere
            log.error("a channel failed in a way that nobody foresaw", exc_info=error)
            return f"{type(error).__name__}: {error}"
        return ""


def _after(telling: Telling, reason: str, now: float) -> Telling:
    """The telling as it is after a try."""
    tries = telling.tries + 1
    plain = replace(telling, sender="", tries=tries, reason=reason)
    if not reason:
        return replace(plain, status=SENT, due_at=None, ended_at=now)
    if tries > len(PAUSES):
        return replace(plain, status=FAILED, due_at=None, ended_at=now)
    return replace(plain, due_at=now + PAUSES[tries - 1] * random.uniform(1.0, 1.0 + JITTER))


async def _all_of(tasks: Sequence[asyncio.Task[T]]) -> list[T]:
    """What they answer once all have ended; none is left behind. Raises what one of them has raised."""
    try:
        if tasks:
            await asyncio.wait(tasks)
    finally:
        for task in tasks:
            task.cancel()
    for task in tasks:
        if not task.cancelled():
            task.exception()  # one of several is raised
    return [task.result() for task in tasks]


def _all(watch: Watch) -> list[Telling]:
    return [telling for alert in watch.alerts for telling in alert.tellings]
