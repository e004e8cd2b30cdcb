"""The parts of one process, once ``bootstrap`` has put them together."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.core.fleet import Fleet
from penstock.core.gateway import Gateway
from penstock.core.health import Prober
from penstock.core.keys import Keyring
from penstock.core.limits.limiter import Limiter
from penstock.core.limits.reaper import Reaper
from penstock.core.metering import Ledger
from penstock.core.ports import Store
from penstock.core.prices import Catalog
from penstock.core.registry import ModelRegistry
from penstock.outbound import HttpClient
from penstock.settings import Settings


@dataclass(frozen=True, slots=True)
class House:
    """The parts of one process, on one event loop."""

    settings: Settings
    client: HttpClient
    store: Store
    keyring: Keyring
    registry: ModelRegistry
    fleet: Fleet
    ledger: Ledger
    prices: Catalog
    limiter: Limiter
    reaper: Reaper
    prober: Prober
    gateway: Gateway
    key_header: bytes

    async def open(self) -> None:
        """Open the store. Raises ``StateError`` saying what is wrong with it."""
        await self.store.open()
        if not self.settings.door:
            self.reaper.start()
            if self.settings.document.health_check.enabled:
                self.prober.start()

    async def close(self) -> None:
        """Write what waits to be written and let go of everything."""
        await self.prober.close()
        await self.reaper.close()
        await self.gateway.close()
        await self.ledger.close()
        await self.limiter.close()
        await self.client.aclose()
        await self.store.close()
