"""The door for the clock: one round of chores a tick, answered with what was done."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

gc.disable()  # while modules are imported nothing is garbage; to look for it is a tenth of a cold start

from penstock import bootstrap, settings  # noqa: E402
from penstock.succession import Succession  # noqa: E402

gc.freeze()
gc.enable()

# One loop for the life of the instance: a connection opened by one invocation serves the next.
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)

# The house is built with the first tick: while the store is away, ticks fail and come again.
succession = Succession(lambda: bootstrap.build(settings.load()))


async def tick() -> dict[str, Any]:
    """Do the chores once, by the configuration of now."""
    house = await succession.current()
    with house.guests:
        return await bootstrap.housekeeper_of(house).run()


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Do the chores once; a failure is Lambda's to report, and the next tick tries again."""
    return loop.run_until_complete(tick())
