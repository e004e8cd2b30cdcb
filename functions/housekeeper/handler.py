"""The door for the clock: one round of chores a tick, answered with what was done."""

from __future__ import annotations

import asyncio
from typing import Any

from penstock import settings
from penstock.bootstrap import build_housekeeper

# One loop for the life of the instance: a connection opened by one invocation serves the next.
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
house, housekeeper = build_housekeeper(settings.load())
loop.run_until_complete(house.open())


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Do the chores once; a failure is Lambda's to report, and the next tick tries again."""
    return loop.run_until_complete(housekeeper.run())
