"""The ledger: outcomes gathered in memory for a moment and written together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from penstock.core.ports import Store
from penstock.errors import StateError
from penstock.schema.outcome import Outcome

log = logging.getLogger("penstock.ledger")

LINGER = 0.1
RETRY = 1.0
BATCH = 500
CAPACITY = 20_000


class Ledger:
    """Writes each outcome once. With ``immediate``, ``settle`` returns when it is written: for a process that may be
    frozen or ended after its answer (Lambda); otherwise outcomes of 100 ms go together in one transaction.

    ``tell`` is called with every batch that was written (log lines, metrics).
    """

    def __init__(
        self, store: Store, *, immediate: bool = False, tell: Callable[[list[Outcome]], None] | None = None
    ) -> None:
        self._store = store
        self.immediate = immediate
        self._tell = tell
        self._pending: list[Outcome] = []
        self._flushing = asyncio.Lock()
        self._due: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None

    def check(self) -> None:
        """Raise ``StateError`` while so many outcomes wait for the store that one more could be lost."""
        if len(self._pending) >= CAPACITY:
            raise StateError("The ledger cannot be written and its buffer is full; no new work is taken until it can.")

    def record(self, outcome: Outcome) -> None:
        """Take an outcome to be written soon."""
        self._pending.append(outcome)
        if self._due is None and not self.immediate:
            self._due = asyncio.get_running_loop().call_later(LINGER, self._start)

    async def settled(self) -> None:
        """Wait until what was recorded is written, where this process may not live to do it later."""
        if self.immediate:
            await asyncio.shield(self.flush())

    async def flush(self) -> bool:
        """Write all that waits; ``False`` if the store would not take it (it waits on)."""
        async with self._flushing:
            while self._pending:
                batch = self._pending[:BATCH]
                try:
                    await self._store.record_outcomes(batch)
                except StateError as error:
                    log.error("outcomes wait for the store: %s", error, extra={"waiting": len(self._pending)})
                    return False
                del self._pending[: len(batch)]
                if self._tell is not None:
                    self._tell(batch)
        return True

    async def written(self) -> None:
        """Wait until all is written, however long the store is away."""
        while True:
            if await self.flush():
                return
            await asyncio.sleep(RETRY)

    async def close(self) -> None:
        """Write all that waits, or else log it, so that no outcome is lost with the process."""
        if self._due is not None:
            self._due.cancel()
        if self._writing is not None:
            await self._writing
        if not await self.flush() and self._tell is not None:
            self._tell(self._pending)

    def _start(self) -> None:
        self._writing = asyncio.ensure_future(self._write())

    async def _write(self) -> None:
        written = False
        try:
            written = await self.flush()
        finally:  # also after what nobody foresaw: what waits is written at last
            self._due = None
            if self._pending:
                pause = LINGER if written else RETRY
                self._due = asyncio.get_running_loop().call_later(pause, self._start)
