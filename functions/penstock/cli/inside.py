"""What commands share: their settings, and an open house to act in."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from penstock import settings, telemetry
from penstock.bootstrap import build
from penstock.bootstrap.places import SIMULATED
from penstock.house import House
from penstock.schema.model import ModelCard
from penstock.settings import Settings
from penstock.succession import as_served


class Command(Protocol):
    """Adds a command to ``penstock``, or to a group ``within`` it; answers its parser."""

    def __call__(self, name: str, run: Callable[[argparse.Namespace], int], text: str, within: Any = None) -> Any:
        """Its name, what it does, and its help."""
        ...


def settings_of(options: argparse.Namespace, **listen: Any) -> Settings:
    """The settings that a command's options name."""
    return settings.load(config=options.config, state=options.state, queue=options.queue, **listen)


def inside(
    options: argparse.Namespace, act: Callable[[House], Awaitable[int]], level: str = "WARNING", *, served: bool = False
) -> int:
    """Run ``act`` with an open house; log lines of this level and above are told to a person.

    ``served``: with the one that a server would live in, by what was pushed or rolled back in the state.
    """

    async def run() -> int:
        house = build(settings_of(options))
        telemetry.configure(level, "plain")
        try:
            await house.open()
            if served:
                house = await as_served(house)
            return await act(house)
        finally:
            await house.close()

    return asyncio.run(run())


def named(cards: list[ModelCard]) -> str:
    """The names of models, for a person."""
    if not cards:
        return "none yet: no provider lists any (penstock doctor says why)"
    names = ", ".join(card.id for card in cards[:8]) + (f" and {len(cards) - 8} more" if len(cards) > 8 else "")
    simulated = all(card.provider_type == SIMULATED for card in cards)
    return names + ("   (simulated: no engine and no provider key was found)" if simulated else "")
