"""What all processes tell each other of places: read behind the requests' backs, written without making them wait."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable

from penstock.core.ports import Store
from penstock.errors import StateError
from penstock.schema.notice import Notice

log = logging.getLogger("penstock.routing")

BELIEVED = 2.0
"""Seconds for which a reading is believed."""
NEVER = float("-inf")


class Noticeboard:
    """One process's view of the notices. ``learn`` is told of each, again at every reading."""

    def __init__(self, store: Store, learn: Callable[[Notice], None]) -> None:
        self._store = store
        self._learn = learn
        self._me = secrets.token_hex(8)
        self._read_at = NEVER
        self._reading: asyncio.Task[None] | None = None
        self._posting: set[asyncio.Task[None]] = set()

    def succeed(self, before: Noticeboard) -> None:
        """Have the duties that another has."""
        self._me, self._read_at = before._me, before._read_at

    def look(self) -> None:
        """Begin to read the notices again if the last reading is too old; nobody waits for it."""
        if time.monotonic() - self._read_at > BELIEVED and (self._reading is None or self._reading.done()):
            self._reading = asyncio.ensure_future(self.read())

    async def read(self) -> None:
        """Read the notices now. While the store is away, what is known stays."""
        self._read_at = time.monotonic()
        try:
            notices = await self._store.list_notices(time.time())
        except StateError as error:
            log.warning("places are as they were: %s", error)
            return
        for notice in notices:
            self._learn(notice)

    def post(self, notice: Notice) -> None:
        """Put up a notice, without waiting until it is there. If the store is away, nobody else learns of it."""
        posting = asyncio.ensure_future(self._post(notice))
        self._posting.add(posting)
        posting.add_done_callback(self._posting.discard)

    async def take(self, duty: str, seconds: float) -> bool:
        """Whether this process has the duty, for ``seconds``. While the store is away, each has to see for itself."""
        now = time.time()
        try:
            return await self._store.take_duty(duty, self._me, now=now, until=now + seconds)
        except StateError as error:
            log.warning("the duty %r is taken without asking the others: %s", duty, error)
            return True

    async def settled(self) -> None:
        """Wait until everything that was posted is written."""
        if self._posting:
            await asyncio.gather(*self._posting)

    async def close(self) -> None:
        """Write what is posted, read no more; idempotent."""
        await self.settled()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _post(self, notice: Notice) -> None:
        try:
            await self._store.post_notice(notice)
        except StateError as error:
            log.warning("other processes are not told that %s is %s: %s", notice.place, notice.state, error)
