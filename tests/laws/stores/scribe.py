"""A process that writes to a store without end, and tells the number of each round once the store has acknowledged it.

Run as ``python -m tests.laws.stores.scribe URL NAME``.
"""

from __future__ import annotations

import asyncio
import sys
from itertools import count

from penstock import plugs
from penstock.core.ports import Store
from tests.laws.stores.records import a_key, an_outcome

BATCH = 7
"""Outcomes in a round; beside them, a round creates one key."""


async def write(url: str, name: str) -> None:
    """Write until killed."""
    store: Store = plugs.load("stores", url.partition(":")[0]).connect(url, None)
    await store.open()
    for number in count():
        outcomes = [an_outcome(request_id=f"{name}-{number}-{n}", deployment=str(number)) for n in range(BATCH)]
        await store.record_outcomes(outcomes)
        await store.create_key(a_key(id=f"{name}-{number}", sha256=f"{name}-{number}"))
        print(number, flush=True)


if __name__ == "__main__":
    asyncio.run(write(*sys.argv[1:]))
