"""Changes to what is kept under a rule's name, each made on top of the one before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from penstock.core.ports import Store
from penstock.errors import StateConflict
from penstock.schema.alert import Watch

TRIES = 20


async def revise(store: Store, name: str, change: Callable[[Watch], Watch]) -> Watch:
    """Write what ``change`` makes of a watch, asking it again after each conflict; the same one is left as it is.

    Answers the watch as it is then. Raises ``StateConflict`` when others come first over and over.
    """
    for _ in range(TRIES):
        found = await store.find_watch(name) or Watch(name)
        after = change(found)
        if after is found:
            return found
        after = replace(after, revision=found.revision + 1)
        try:
            await store.replace_watch(after)
        except StateConflict:
            continue
        return after
    raise StateConflict(f"the alerts of {name} are being changed over and over")
