"""What the core asks of a store to keep webhooks and deliveries."""

from __future__ import annotations

from typing import Protocol

from penstock.schema.webhook import Delivery, DueDelivery, Webhooks


class WebhookStore(Protocol):
    """The part of a ``Store`` that keeps webhooks, and deliveries to them; the same rules hold."""

    async def load_webhooks(self, key_id: str) -> Webhooks:
        """The webhooks of a key; none, of revision 0, if it never had any."""
        ...

    async def replace_webhooks(self, webhooks: Webhooks) -> None:
        """Write a key's next revision; ``StateConflict`` unless the one before it is the present one."""
        ...

    async def create_delivery(self, delivery: Delivery) -> bool:
        """Keep a new delivery; ``False`` if its id exists."""
        ...

    async def find_delivery(self, id: str) -> Delivery | None:
        """The delivery, or ``None``."""
        ...

    async def list_deliveries(self, webhook_id: str, *, before: float, limit: int) -> list[Delivery]:
        """Those of a webhook that were created before, the newest first."""
        ...

    async def count_waiting(self, webhook_id: str, *, limit: int) -> int:
        """How many of a webhook's deliveries are due now or later, counted up to ``limit``."""
        ...

    async def due_deliveries(self, now: float, *, limit: int) -> list[DueDelivery]:
        """Those whose time has come, the longest overdue first."""
        ...

    async def claim_delivery(self, id: str, sender: str, *, now: float, lease: float) -> Delivery | None:
        """Take a delivery that is due, for ``lease`` seconds; ``None`` if it is not to be had."""
        ...

    async def postpone_delivery(self, id: str, *, seen: float, due_at: float) -> bool:
        """Say when a delivery is due again; ``False`` if it is not due as it was ``seen`` any more."""
        ...

    async def settle_delivery(self, delivery: Delivery, sender: str) -> bool:
        """Write what became of a delivery that one holds; ``False`` if it is another's now.

        Its status, tries, log, ``due_at`` and ``expires_at`` are written, and nobody is its sender any more.
        """
        ...

    async def restart_delivery(self, id: str, *, now: float) -> bool:
        """Have a delivery sent now, as if it was new; ``False`` while somebody is at it, or if there is none."""
        ...

    async def prune_deliveries(self, now: float) -> int:
        """Forget deliveries that have expired; answers how many (0 where the backend's own TTL does it)."""
        ...
