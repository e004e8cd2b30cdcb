"""``penstock models`` and ``penstock doctor``: look around."""

from __future__ import annotations

import argparse
import time

from penstock.cli.inside import Command, inside, named
from penstock.house import House
from penstock.settings import Settings


def add(command: Command) -> None:
    """Add the commands."""
    command("models", _models, "List the models that are found.")
    command("doctor", _doctor, "Say what is configured, reachable and missing.")


def _models(options: argparse.Namespace) -> int:
    async def act(house: House) -> int:
        await house.registry.refresh()
        for card in await house.registry.cards():
            print(f"{card.id}  {card.owned_by}")
        return 0

    return inside(options, act, served=True)


def _doctor(options: argparse.Namespace) -> int:
    async def act(house: House) -> int:
        told = house.settings
        await house.store.ping()
        print(f"configuration  {_lived_by(told)}")
        print(f"state          {told.state_url}: reads and writes")
        keys = [key for key in await house.store.list_keys() if key.active(time.time())]
        mode = told.document.auth.mode
        print(f"keys           {len(keys)} active in the state, {len(told.keys)} configured, mode {mode}")
        failed = 0
        for provider, problem in await house.registry.examine():
            failed += problem is not None
            print(f"provider       {provider}: {problem or 'reachable'}")
        cards = await house.registry.cards()
        print(f"models         {named(cards)}")
        return 1 if failed and told.source else 0

    return inside(options, act, "ERROR", served=True)


def _lived_by(told: Settings) -> str:
    """Where the configuration is from."""
    if told.source is None:
        return "none: what is found around is used"
    if not told.version:
        return told.config_path
    return f"{told.version} of the state, " + (
        f"to which {told.config_path} was rolled back" if told.config_path else "which was pushed"
    )
