"""The door for the clock: one round of chores a tick, answered with what was done."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any

from penstock import bootstrap, settings

# One loop for the life of the instance: a connection opened by one invocation serves the next.
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)


@cache
def housekeeper() -> Any:
    """The housekeeper, made with the first tick: while the store is away, ticks fail and come again."""
    house, made = bootstrap.build_housekeeper(settings.load())
    loop.run_until_complete(house.open())
    return made


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Do the chores once; a failure is Lambda's to report, and the next tick tries again."""
    done: dict[str, Any] = loop.run_until_complete(housekeeper().run())
    return done
