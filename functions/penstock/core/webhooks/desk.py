"""The parts that tell webhooks, as one process has them."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.core.keys import Keyring
from penstock.core.ports import Outlet, Store
from penstock.core.webhooks.announcer import Announcer
from penstock.core.webhooks.courier import Courier
from penstock.core.webhooks.registration import Registrations
from penstock.schema.webhook_section import WebhookSection


@dataclass(frozen=True, slots=True)
class WebhookDesk:
    """Who registers, who announces, who sends, and by which way out."""

    outlet: Outlet
    courier: Courier
    announcer: Announcer
    registrations: Registrations

    async def close(self) -> None:
        """Let what is under way end, and let go of the connections."""
        await self.courier.close()
        await self.outlet.aclose()


def furnish(
    store: Store, outlet: Outlet, keyring: Keyring, section: WebhookSection, *, eager: bool = True
) -> WebhookDesk:
    """A desk of these parts; ``eager`` where the process goes on after it has answered, or waits before."""
    courier = Courier(store, outlet, keyring, timeout=section.timeout, eager=eager)
    announcer = Announcer(store, courier, backlog=section.backlog)
    return WebhookDesk(
        outlet, courier, announcer, Registrations(store, outlet, courier, announcer, most=section.per_key)
    )
