"""The house's regular chores."""

from __future__ import annotations

import asyncio
import time

from penstock.core.alerts.watchman import Round, Watchman
from penstock.core.health import Prober
from penstock.core.jobs.resender import Resender
from penstock.core.jobs.usher import Usher
from penstock.core.limits.reaper import Reaper
from penstock.core.ports import Store
from penstock.core.sweeper import Sweeper
from penstock.core.webhooks.courier import Courier

RETENTION = 93 * 86400.0
"""Seconds for which outcomes are kept: GET /v1/usage tells up to 92 days."""


class Housekeeper:
    """The chores that some process must do now and then; doing them twice does no harm."""

    def __init__(
        self,
        store: Store,
        reaper: Reaper,
        resender: Resender,
        *,
        usher: Usher,
        prober: Prober,
        sweeper: Sweeper,
        courier: Courier,
        watchman: Watchman | None = None,
    ) -> None:
        self._store = store
        self._reaper = reaper
        self._resender = resender
        self._usher = usher
        self._prober = prober
        self._sweeper = sweeper
        self._courier = courier
        self._watchman = watchman

    async def run(self) -> dict[str, int]:
        """End lost holds, tell of jobs again, look at providers, forget what is old, look at alerts' rules, send what
        alerts' channels and webhooks wait for.

        Answers how many.
        """
        lost = await self._reaper.turn()
        resent = await self._resender.turn()
        called = await self._usher.turn()
        looked = await self._prober.run()
        pruned = await self._store.prune_outcomes(time.time() - RETENTION)
        swept = await self._sweeper.turn()
        watched, tried = await asyncio.gather(self._watch(), self._courier.turn())  # the last: receivers may be slow
        return {
            "holds_ended": lost,
            "jobs_resent": resent,
            "jobs_called": called,
            "registry_version": looked.registry.version,
            "models": len(looked.registry.cards),
            "providers_down": looked.down,
            "outcomes_pruned": pruned,
            "files_removed": swept,
            "deliveries_tried": tried,
            "rules_looked_at": watched.looked,
            "alerts_told": watched.told,
        }

    async def _watch(self) -> Round:
        return await self._watchman.run() if self._watchman is not None else Round(0, 0)
