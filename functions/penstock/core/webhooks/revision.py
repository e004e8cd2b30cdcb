"""Changes to a key's webhooks, each made on top of the one before."""

from __future__ import annotations

from collections.abc import Callable

from penstock.core.ports import Store
from penstock.errors import StateConflict
from penstock.schema.webhook import Webhook, Webhooks

TRIES = 20

Change = Callable[[Webhooks], tuple[Webhook, ...] | None]


async def revise(store: Store, key_id: str, change: Change) -> None:
    """Write what ``change`` makes of a key's webhooks, asking it again after each conflict; ``None`` leaves them.

    Raises ``StateConflict`` when others come first over and over.
    """
    for _ in range(TRIES):
        found = await store.load_webhooks(key_id)
        each = change(found)
        if each is None:
            return
        try:
            await store.replace_webhooks(Webhooks(key_id, found.revision + 1, each))
        except StateConflict:
            continue
        return
    raise StateConflict(f"the webhooks of {key_id} are being changed over and over")


def with_changed(found: Webhooks, webhook: Webhook) -> tuple[Webhook, ...]:
    """All of a key's webhooks, with this one in the place of the one that has its id."""
    return tuple(webhook if other.id == webhook.id else other for other in found.each)
