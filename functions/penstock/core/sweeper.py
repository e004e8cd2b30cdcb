"""Takes away what nobody keeps any more: expired files, old batches, and what a crash left among the objects."""

from __future__ import annotations

import time

from penstock.core.chore import Chore
from penstock.core.files.shelf import Shelf
from penstock.core.jobs.bulk import FOLDER
from penstock.core.jobs.submission import WAITING, Terms
from penstock.core.ports import Objects, Store
from penstock.schema.batch import LINE_KEPT

EVERY = 600.0
"""Seconds between two rounds of a process that lives long."""
MARGIN = 86400.0


class Sweeper(Chore):
    """Sweeps once, or now and then; doing it twice does no harm."""

    def __init__(self, store: Store, objects: Objects | None, files: Shelf, terms: Terms) -> None:
        super().__init__(EVERY)
        self._store = store
        self._objects = objects
        self._files = files
        self._oldest = WAITING + max(terms.retention, LINE_KEPT) + MARGIN

    async def turn(self) -> int:
        """Sweep; answers how many files were to be removed. Bodies and answers go when they are older than any job."""
        await self._store.prune_batches(time.time())
        if self._objects is not None:
            await self._objects.sweep(FOLDER, time.time() - self._oldest)
        return await self._files.sweep()
