"""``penstock keys``: make, list and revoke them."""

from __future__ import annotations

import argparse
import re
import time
from dataclasses import fields
from typing import Any, TypeVar

from penstock.cli.inside import Command, inside
from penstock.core.keys import generate, new_key, record_act
from penstock.errors import SettingsError
from penstock.house import House
from penstock.schema.key import EVERY, SCOPES
from penstock.schema.limit import Budget, Limits

ACTOR = "command line"
"""Who acts, in the audit trail, when a command does."""

Stated = TypeVar("Stated", Limits, Budget)


def add(command: Command, keys: Any) -> None:
    """Add the commands to their group."""
    new = command("new", _new, "Make a key and show it once.", keys)
    new.add_argument("--description", default="")
    new.add_argument("--owner", default="")
    new.add_argument("--priority", type=int, default=0)
    new.add_argument("--scope", action="append", choices=sorted(SCOPES), help="may be repeated (default: inference)")
    new.add_argument("--model", action="append", help="glob of models that the key may use; may be repeated")
    new.add_argument("--provider", action="append", help="glob of providers that it is pinned to; may be repeated")
    new.add_argument("--limit", action="append", metavar="NAME=N", help="such as requests_per_minute=600; repeatable")
    new.add_argument("--budget", action="append", metavar="PERIOD=DOLLARS", help="such as daily=2.5; repeatable")
    new.add_argument("--days", type=float, help="days until the key expires")
    command("list", _list, "List keys, without the keys themselves.", keys)
    command("revoke", _revoke, "Revoke a key for good.", keys).add_argument("id")
    text = "Print a random key and keep nothing: for ROUTER_API_KEY or API_KEYS."
    made = command("generate", _generate, text, keys)
    made.add_argument("--length", type=int, default=40)
    made.add_argument("--prefix", default="psk")


def _new(options: argparse.Namespace) -> int:
    if options.days is not None and not 0 < options.days <= 36500:
        raise SettingsError("must be more than 0 and at most 36500", setting="--days")
    limits, budget = _stated("--limit", options.limit, Limits, int), _stated("--budget", options.budget, Budget, float)

    async def act(house: House) -> int:
        secret = generate()
        key = new_key(
            secret,
            description=options.description,
            owner=options.owner,
            priority=options.priority,
            scopes=tuple(options.scope or ("inference",)),
            models=tuple(options.model or EVERY),
            providers=tuple(options.provider or EVERY),
            expires_at=time.time() + options.days * 86400 if options.days is not None else None,
            limits=limits,
            budget=budget,
        )
        await record_act(house.store, ACTOR, "create key", key.id)
        await house.store.create_key(key)
        print(f"{secret.reveal()}\n{key.id} was made. The key is shown this once.", flush=True)
        return 0

    return inside(options, act)


def _stated(option: str, words: list[str] | None, kind: type[Stated], number: type[int | float]) -> Stated | None:
    """The limits or the budget that ``NAME=NUMBER`` words state; ``None`` without a word."""
    if not words:
        return None
    known = [field.name for field in fields(kind)]
    values: dict[str, Any] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name not in known:
            raise SettingsError(f"{word!r} names none of {', '.join(known)}", setting=option)
        try:
            values[name] = number(value)
        except ValueError:
            raise SettingsError(f"{word!r} gives {name} no number", setting=option) from None
    try:
        return kind(**values)
    except ValueError as error:
        raise SettingsError(str(error), setting=option) from None


def _list(options: argparse.Namespace) -> int:
    async def act(house: House) -> int:
        for key in await house.store.list_keys():
            state = "revoked" if key.revoked_at else "active" if key.active(time.time()) else "expired"
            made = time.strftime("%Y-%m-%d %H:%M", time.gmtime(key.created_at))
            print(f"{key.id}  {state:8} {made}  {key.hint}  {','.join(key.scopes)}  {key.owner}  {key.description}")
        return 0

    return inside(options, act)


def _revoke(options: argparse.Namespace) -> int:
    async def act(house: House) -> int:
        if await house.store.read_key(options.id) is None:
            raise SettingsError(f"there is no key {options.id!r}; penstock keys list shows those that there are")
        await record_act(house.store, ACTOR, "revoke key", options.id)
        await house.store.revoke_key(options.id, time.time())
        print(f"{options.id} is revoked; every process refuses it within 5 seconds.")
        return 0

    return inside(options, act)


def _generate(options: argparse.Namespace) -> int:
    if not 16 <= options.length <= 256:
        raise SettingsError("must be from 16 to 256", setting="--length")
    if not re.fullmatch(r"[A-Za-z0-9_-]{0,64}", options.prefix):
        raise SettingsError("must be at most 64 letters, digits, - and _", setting="--prefix")
    print(generate(options.length, options.prefix).reveal())
    return 0
