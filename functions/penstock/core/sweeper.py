"""Takes away what a crash has left among the objects."""

from __future__ import annotations

import time

from penstock.core.chore import Chore
from penstock.core.jobs.bulk import FOLDER
from penstock.core.jobs.submission import WAITING, Terms
from penstock.core.ports import Objects

EVERY = 3600.0
"""Seconds between two rounds of a process that lives long."""
MARGIN = 86400.0


class Sweeper(Chore):
    """Forgets bodies and answers of jobs that are older than any job."""

    def __init__(self, objects: Objects | None, terms: Terms) -> None:
        super().__init__(EVERY)
        self._objects = objects
        self._oldest = WAITING + terms.retention + MARGIN

    async def turn(self) -> int:
        """Sweep once; answers how many objects were left."""
        if self._objects is None:
            return 0
        return await self._objects.sweep(FOLDER, time.time() - self._oldest)
