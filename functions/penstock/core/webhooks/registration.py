"""What callers do with their webhooks. A webhook is private to its key."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from penstock.core.ports import Outlet, Store
from penstock.core.webhooks.announcer import Announcer, Event, new_delivery
from penstock.core.webhooks.courier import Courier
from penstock.core.webhooks.revision import revise, with_changed
from penstock.core.webhooks.signing import new_secret
from penstock.errors import DeliveryUnderWay, InvalidRequest, NotFound
from penstock.schema.key import Caller
from penstock.schema.webhook import TEST, Delivery, Webhook, Webhooks


class Registrations:
    """The callers' side of webhooks. A key has ``most`` of them at most."""

    def __init__(self, store: Store, outlet: Outlet, courier: Courier, announcer: Announcer, *, most: int) -> None:
        self._store = store
        self._outlet = outlet
        self._courier = courier
        self._announcer = announcer
        self._most = most

    async def add(self, caller: Caller, fields: Mapping[str, Any]) -> Webhook:
        """A new webhook, told of what happens from now on. Raises ``InvalidRequest``."""
        self._outlet.check(fields["url"])
        now = time.time()
        webhook = Webhook(
            f"wh_{int(now * 1000):012x}{secrets.token_hex(8)}", secret=new_secret(), created_at=now, **fields
        )

        def change(found: Webhooks) -> tuple[Webhook, ...]:
            if len(found.each) >= self._most:
                raise InvalidRequest(f"A key may have {self._most} webhooks: remove one before you add another.")
            return (*found.each, webhook)

        await self._revise(caller, change)
        return webhook

    async def every(self, caller: Caller) -> tuple[Webhook, ...]:
        """A caller's webhooks, the oldest first."""
        return (await self._store.load_webhooks(caller.key_id)).each

    async def find(self, caller: Caller, id: str) -> Webhook:
        """A caller's own webhook. Raises ``NotFound`` for every other."""
        return _found(await self._store.load_webhooks(caller.key_id), id)

    async def change(self, caller: Caller, id: str, fields: Mapping[str, Any], enabled: bool | None = None) -> Webhook:
        """Change what is given; ``enabled`` disables it, or lets it begin anew. Raises ``InvalidRequest``."""
        if "url" in fields:
            self._outlet.check(fields["url"])
        given = dict(fields)
        if enabled is True:
            given |= {"disabled_at": None, "disabled_because": "", "failing_since": None}
        elif enabled is False:
            given |= {"disabled_at": time.time(), "disabled_because": "its key's holder disabled it"}
        return await self._replace(caller, id, lambda webhook: replace(webhook, **given))

    async def rotate(self, caller: Caller, id: str, *, grace: float) -> Webhook:
        """Put a new secret in the place of one, which signs as well for ``grace`` seconds more."""
        secret, until = new_secret(), time.time() + grace
        return await self._replace(
            caller, id, lambda webhook: replace(webhook, secret=secret, previous=webhook.secret, previous_until=until)
        )

    async def remove(self, caller: Caller, id: str) -> None:
        """Forget a webhook; what waits for it is not sent any more."""

        def change(found: Webhooks) -> tuple[Webhook, ...]:
            gone = _found(found, id)
            return tuple(webhook for webhook in found.each if webhook is not gone)

        await self._revise(caller, change)

    async def test(self, caller: Caller, id: str) -> Delivery:
        """Send a webhook an event that says nothing, once and now; answers what came of it."""
        webhook = _enabled(await self.find(caller, id))
        now = time.time()
        event = Event(caller.key_id, TEST, secrets.token_hex(16), now, {"id": webhook.id, "object": "webhook"})
        delivery = new_delivery(webhook, event, now)
        await self._store.create_delivery(delivery)
        return await self._sent(delivery)

    async def deliveries(self, caller: Caller, id: str, *, before: float, limit: int) -> list[Delivery]:
        """What a webhook was told, or is to be, that was made before; the newest first."""
        await self.find(caller, id)
        return await self._store.list_deliveries(id, before=before, limit=limit)

    async def redeliver(self, caller: Caller, id: str) -> Delivery:
        """Send again what was delivered, or what was not, once and now; after a failure it is tried again later.

        Raises ``NotFound``, and ``DeliveryUnderWay`` while it is being sent.
        """
        delivery = await self._store.find_delivery(id)
        if delivery is None or delivery.key_id != caller.key_id or delivery.expires_at <= time.time():
            raise NotFound(f"There is no delivery {id[:80]!r}.")
        _enabled(await self.find(caller, delivery.webhook_id))
        if not await self._store.restart_delivery(id, now=time.time()):
            raise DeliveryUnderWay("This delivery is being sent: ask again in a minute.")
        return await self._sent(delivery)

    async def _sent(self, delivery: Delivery) -> Delivery:
        await self._courier.send(delivery.id)
        return await self._store.find_delivery(delivery.id) or delivery

    async def _replace(self, caller: Caller, id: str, change: Callable[[Webhook], Webhook]) -> Webhook:
        after: list[Webhook] = []

        def changed(found: Webhooks) -> tuple[Webhook, ...]:
            after[:] = [change(_found(found, id))]
            return with_changed(found, after[0])

        await self._revise(caller, changed)
        return after[0]

    async def _revise(self, caller: Caller, change: Callable[[Webhooks], tuple[Webhook, ...]]) -> None:
        await revise(self._store, caller.key_id, change)
        self._announcer.forget(caller.key_id)


def _found(webhooks: Webhooks, id: str) -> Webhook:
    webhook = webhooks.find(id)
    if webhook is None:
        raise NotFound(f"There is no webhook {id[:80]!r}.")
    return webhook


def _enabled(webhook: Webhook) -> Webhook:
    if webhook.disabled_at is not None:
        raise InvalidRequest(f"This webhook is disabled: {webhook.disabled_because}. Enable it before.")
    return webhook
