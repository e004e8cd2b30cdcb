"""Sends deliveries: signed, one at a time by one process at a time, again after a failure, until they have arrived."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import secrets
import time
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from weakref import WeakValueDictionary

from penstock import __version__
from penstock.core.chore import Chore
from penstock.core.counters import Counter
from penstock.core.keys import Keyring
from penstock.core.ports import Outlet, Store
from penstock.core.webhooks.revision import revise, with_changed
from penstock.core.webhooks.signing import signed_headers
from penstock.errors import Authentication, InvalidRequest, StateError, UpstreamError, UpstreamTimeout
from penstock.schema.webhook import (
    DELIVERED,
    FAILED,
    TEST,
    Delivery,
    DueDelivery,
    Sending,
    Webhook,
    Webhooks,
)

log = logging.getLogger("penstock.webhooks")

PAUSES = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
"""Seconds after each failure until the next try, as the specification has them; after the last of them it is over."""
JITTER = 0.1
"""The part of a pause that chance may add."""
GIVEN_UP = 3 * 86_400.0
"""Seconds after which a webhook is disabled that has failed ever since."""
KEPT_FOR = 7 * 86_400.0
"""Seconds for which a delivery is kept once nothing happens to it any more."""
LOGGED = 20
"""Tries that a delivery's log holds."""

EVERY = 5.0
"""Seconds between two looks of a process that lives long for what is due."""
BATCH = 100
LONGEST = 20.0
"""Seconds after which a turn begins no more tries: a function has a minute for all its chores."""
MARGIN = 10.0
"""Seconds beyond its time that a sender has to write what became of a delivery, until it is taken for dead."""
AT_ONCE, EACH = 64, 4
"""Deliveries under way in this process: altogether, and to one webhook. All of one key's leave room for others."""
MOST_AHEAD = 1000
"""New deliveries that this process keeps in mind; more are found when they are due."""
REST = 10.0
"""Seconds for which a webhook that is away is sent nothing else; then one at a time, until it answers again."""
GRACE = 5.0
"""Seconds that deliveries under way have to end when the process does."""
GONE = 410
CROWDED = (429, 502, 503, 504)

TRIES = Counter("penstock_webhook_tries_total", "Tries to deliver an event to a webhook.", ("result",))
DISABLED = Counter("penstock_webhooks_disabled_total", "Webhooks that were disabled because they failed, or are gone.")


class Courier(Chore):
    """Sends what is due; one that is ``eager`` also what is new, at once. A try may take ``timeout`` seconds."""

    def __init__(self, store: Store, outlet: Outlet, keyring: Keyring, *, timeout: float, eager: bool) -> None:
        super().__init__(EVERY)
        self._store = store
        self._outlet = outlet
        self._keyring = keyring
        self._timeout = timeout
        self._eager = eager
        self._tasks: set[asyncio.Task[bool]] = set()
        self._room = asyncio.Semaphore(AT_ONCE)
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._resting: dict[str, float] = {}

    def soon(self, fresh: Sequence[DueDelivery]) -> None:
        """Send these new deliveries at once, behind the back of whoever made them."""
        for due in fresh[: max(MOST_AHEAD - len(self._tasks), 0)] if self._eager else ():
            self._begin(self._in_turn(due, math.inf))

    async def turn(self) -> int:
        """Send what is due, and forget what has expired; answers how many deliveries were tried."""
        tried, until = 0, time.monotonic() + LONGEST
        while due := await self._store.due_deliveries(time.time(), limit=BATCH):
            tasks = [self._begin(self._in_turn(each, until)) for each in due]
            await asyncio.wait(tasks)
            done = sum(not task.cancelled() and task.exception() is None and task.result() for task in tasks)
            tried += done
            if len(due) < BATCH or not done:
                break
        await self._store.prune_deliveries(time.time())
        return tried

    async def sent(self) -> None:
        """Wait until what is under way has ended."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Look for no more, and let what is under way end; what does not in time is sent again by others."""
        await super().close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=GRACE)
        for task in (left := tuple(self._tasks)):
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def send(self, id: str) -> bool:
        """Try once to deliver what is due; ``False`` if it is not, or another is at it.

        Raises ``StateError``; then it is tried again.
        """
        sender, now = secrets.token_hex(8), time.time()
        delivery = await self._store.claim_delivery(id, sender, now=now, lease=self._timeout + MARGIN)
        if delivery is None:
            return False
        await self._store.settle_delivery(await self._tried(delivery), sender)
        return True

    def _begin(self, work: Coroutine[Any, Any, bool]) -> asyncio.Task[bool]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def _in_turn(self, due: DueDelivery, until: float) -> bool:
        """Send a delivery when there is room, if there is in time; where its webhook rests, put it off."""
        turn = self._turns.setdefault(due.webhook_id, asyncio.Semaphore(EACH))
        try:
            async with turn, self._room:
                if time.monotonic() > until:
                    return False
                rest = self._resting.get(due.webhook_id, 0.0) - time.monotonic()
                if rest <= 0:
                    if due.webhook_id in self._resting:
                        self._resting[due.webhook_id] = time.monotonic() + self._timeout
                    return await self.send(due.id)
            later = time.time() + rest * random.uniform(1.0, 1.0 + JITTER)
            await self._store.postpone_delivery(due.id, seen=due.due_at, due_at=later)
        except StateError as error:
            log.warning("a delivery is sent later: %s", error, extra={"delivery_id": due.id})
        return False

    async def _tried(self, delivery: Delivery) -> Delivery:
        """The delivery as it is after a try."""
        webhook = (await self._store.load_webhooks(delivery.key_id)).find(delivery.webhook_id)
        why = await self._why_not(delivery, webhook)
        if webhook is None or why:
            return _over(delivery, FAILED, Sending(time.time(), 0, 0.0, f"not sent: {why}"))
        said, after = await self._post(webhook, delivery)
        well = said.status // 100 == 2
        TRIES.add("delivered" if well else "failed")
        self._let_rest(webhook, said.status, after)
        await self._remember(webhook, delivery, said)
        if well:
            return _over(delivery, DELIVERED, said)
        if said.status == GONE or delivery.event == TEST or delivery.tries >= len(PAUSES):
            return _over(delivery, FAILED, said)
        pause = max(PAUSES[delivery.tries] * random.uniform(1.0, 1.0 + JITTER), after)
        return _again(delivery, said, pause)

    async def _why_not(self, delivery: Delivery, webhook: Webhook | None) -> str:
        """Why a delivery is not to be sent at all; empty if it is."""
        if webhook is None:
            return "the webhook was removed"
        if webhook.disabled_at is not None:
            return "the webhook is disabled"
        try:
            await self._keyring.holder(delivery.key_id)
        except Authentication:
            return "its key was revoked, or has expired"
        return ""

    async def _post(self, webhook: Webhook, delivery: Delivery) -> tuple[Sending, float]:
        """What came of posting it, and the seconds of the answer's ``Retry-After``."""
        at, began = time.time(), time.monotonic()
        headers = [
            ("content-type", "application/json"),
            ("user-agent", f"Penstock/{__version__}"),
            *signed_headers(webhook, delivery.message_id, at, delivery.body),
        ]
        status, after, reason = 0, 0.0, ""
        try:
            reply = await self._outlet.post(webhook.url, headers, delivery.body, timeout=self._timeout)
            status, after = reply.status, reply.retry_after or 0.0
            reason = _reason(status)
        except UpstreamTimeout:
            reason = f"no answer within {self._timeout:g} seconds"
        except UpstreamError as error:
            reason = "it " + (error.public or error.message).removeprefix("The provider ").removesuffix(".")
        except InvalidRequest as error:
            reason = error.message.removesuffix(".")
        return Sending(at, status, round(time.monotonic() - began, 3), reason), after

    def _let_rest(self, webhook: Webhook, status: int, after: float) -> None:
        """Send nothing else for a while to a webhook that is away, or asks for it."""
        self._resting.pop(webhook.id, None)
        if status == 0 or status in CROWDED:
            self._resting[webhook.id] = time.monotonic() + max(min(after, PAUSES[1]), REST)

    async def _remember(self, webhook: Webhook, delivery: Delivery, said: Sending) -> None:
        """Note that a webhook has begun to fail, or does no more; disable one that is gone, or has failed for days."""
        if _marked(webhook, delivery.event, said) == webhook:
            return
        disabled = False

        def change(found: Webhooks) -> tuple[Webhook, ...] | None:
            nonlocal disabled
            present = found.find(webhook.id)
            after = present and _marked(present, delivery.event, said)
            if after is None or after == present:
                return None
            disabled = after.disabled_at is not None
            return with_changed(found, after)

        await revise(self._store, delivery.key_id, change)
        if disabled:
            DISABLED.add()
            log.warning("a webhook was disabled: %s", said.reason, extra={"webhook_id": webhook.id})

    def _ended(self, task: asyncio.Task[bool]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("a delivery failed in a way that nobody foresaw", exc_info=error)


def _marked(webhook: Webhook, event: str, said: Sending) -> Webhook:
    """The webhook as a try leaves it. A test that fails says nothing of it, unless that it is gone."""
    if said.status // 100 == 2:
        return replace(webhook, failing_since=None)
    if said.status == GONE:
        return replace(webhook, disabled_at=said.at, disabled_because="it answered 410: it is gone")
    if event == TEST:
        return webhook
    if webhook.failing_since is None:
        return replace(webhook, failing_since=said.at)
    if said.at - webhook.failing_since < GIVEN_UP:
        return webhook
    since = datetime.fromtimestamp(webhook.failing_since, UTC).isoformat(timespec="seconds")
    return replace(webhook, disabled_at=said.at, disabled_because=f"every delivery since {since} has failed")


def _reason(status: int) -> str:
    if status // 100 == 2:
        return ""
    return f"it answered {status}" + (": redirects are not followed" if status // 100 == 3 else "")


def _over(delivery: Delivery, status: str, said: Sending) -> Delivery:
    log = (*delivery.log, said)[-LOGGED:]
    return replace(delivery, status=status, due_at=None, log=log, expires_at=time.time() + KEPT_FOR)


def _again(delivery: Delivery, said: Sending, pause: float) -> Delivery:
    log, due_at = (*delivery.log, said)[-LOGGED:], time.time() + pause
    return replace(delivery, tries=delivery.tries + 1, due_at=due_at, log=log, expires_at=due_at + KEPT_FOR)
