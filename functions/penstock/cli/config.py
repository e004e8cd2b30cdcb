"""``penstock config``: check a configuration, publish it to the state, show what it keeps, describe it to editors."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from typing import Any

from penstock import settings
from penstock.bootstrap import build
from penstock.cli.inside import Command, settings_of
from penstock.cli.keys import ACTOR
from penstock.core.configs import Documents, named
from penstock.errors import SettingsError
from penstock.settings import Settings


def add(command: Command, group: Any) -> None:
    """Add the commands to their group."""
    check = command("check", _check, "Tell every mistake of a configuration file.", group)
    push = command("push", _push, "Check a file, and publish it to the state.", group)
    for made in (check, push):
        made.add_argument("file", nargs="?", help="default: that of --config, else $PENSTOCK_CONFIG")
    command("show", _show, "List the configurations that the state keeps.", group)
    command("schema", _schema, "Print the JSON Schema of config.yaml, for editors.", group)


def _schema(options: argparse.Namespace) -> int:
    from penstock.config.schema import schema_text  # noqa: PLC0415 - only this command needs it

    print(schema_text(), end="")
    return 0


def _check(options: argparse.Namespace) -> int:
    from penstock.config import every_mistake  # noqa: PLC0415 - brings pydantic and PyYAML along

    options.config = options.file or options.config
    found = every_mistake(settings.read(_path(options)))
    try:
        told = settings_of(options) if not found else None
        if told is not None:
            build(told)
    except SettingsError as error:
        found = [error]
    for mistake in found:
        print(mistake, file=sys.stderr)
    if not found:
        print(f"{_path(options)} is good")
    return 1 if found else 0


def _push(options: argparse.Namespace) -> int:
    options.config = options.file or options.config
    source = settings.read(_path(options))
    told = settings.load(
        settings.believing(source), config=options.config, state=options.state, queue=options.queue, source=source
    )
    build(told)
    settings.check_kept(source)
    return asyncio.run(_publish(told))


async def _publish(told: Settings) -> int:
    assert told.source is not None
    house = build(told)
    try:
        await house.open()
        documents = Documents(house.store)
        number = await documents.number(told.source, settings.kept(told.source), ACTOR)
        await documents.push(number, ACTOR)
    finally:
        await house.close()
    print(f"{named(number)} is pushed to {told.state_url}: functions, and servers without a file, follow it in seconds")
    return 0


def _show(options: argparse.Namespace) -> int:
    async def run() -> int:
        house = build(settings_of(options))
        try:
            await house.open()
            documents, steering = Documents(house.store), await house.store.load_steering()
            for version in await documents.history():
                at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(version.loaded_at))
                mark = "  pushed" if version.number == steering.pushed else ""
                if other := steering.instead.get(version.number):
                    mark += f"  rolled back: {other} runs instead"
                print(f"{version.number:>5}  {at} UTC  {version.sha256[:12]}  {version.origin}{mark}")
        finally:
            await house.close()
        return 0

    return asyncio.run(run())


def _path(options: argparse.Namespace) -> str:
    path = settings.path_of(options.config)
    if not path:
        raise SettingsError("name a file, as in: penstock config check config.yaml")
    return path
