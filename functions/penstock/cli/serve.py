"""``penstock serve``: check that everything opens, say how to call, and serve."""

from __future__ import annotations

import argparse
import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from tempfile import TemporaryDirectory

from penstock import __version__, settings
from penstock.bootstrap import build
from penstock.cli.inside import Command, named, settings_of
from penstock.cli.keys import ACTOR
from penstock.core.json import to_json
from penstock.core.keys import generate, new_key, record_act
from penstock.errors import SettingsError
from penstock.house import House
from penstock.schema.model import ModelCard
from penstock.schema.secret import Secret
from penstock.settings import Settings
from penstock.succession import as_served


def add(command: Command) -> None:
    """Add the command."""
    serve = command("serve", _serve, "Serve OpenAI's API.")
    serve.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    serve.add_argument("--port", type=int, help="port to listen on (default: 8000)")
    serve.add_argument("--workers", type=int, default=1, help="processes (default: 1)")


def _serve(options: argparse.Namespace) -> int:
    from penstock.server import run  # noqa: PLC0415 - only this command needs a server

    if options.workers < 1:
        raise SettingsError("must be at least 1", setting="--workers")
    told = settings_of(options, host=options.host, port=options.port)
    server = told.document.server
    _check_port(server.host, server.port)
    asyncio.run(_greet(told))
    with _together(told, options.workers) as told:
        settings.export(told)
        run(server, options.workers)
    return 0


@contextmanager
def _together(told: Settings, workers: int) -> Iterator[Settings]:
    """Settings with a folder for what several processes count."""
    if workers == 1 or told.metrics_folder:
        yield told
        return
    with TemporaryDirectory(prefix="penstock-metrics-") as folder:
        yield replace(told, metrics_folder=folder)


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = error.strerror or str(error)
            where = f"{host}:{port}"
            raise SettingsError(
                f"cannot listen there: {reason}. Choose another with --port or --host", where=where
            ) from None


async def _greet(told: Settings) -> None:
    """Check that everything opens, make the first key, and say how to call."""
    house = build(told)
    try:
        await house.open()
        house = await as_served(house)
        key = await _first_key(house)
        await house.registry.refresh()
        cards = await house.registry.cards()
    finally:
        await house.close()
    server = told.document.server
    url = f"http://{f'[{server.host}]' if ':' in server.host else server.host}:{server.port}"
    lines = [f"Penstock {__version__} on {url}", f"  state   {told.state_url}", f"  models  {named(cards)}"]
    if key is not None:
        lines.append(f"  key     {key.reveal()}   (shown this once; more with: penstock keys new)")
    lines += ["", "Try it:", f"  {_curl(house.settings, url, key, cards)}", ""]
    print("\n".join(lines), flush=True)


async def _first_key(house: House) -> Secret | None:
    """A key for a store that has none, where callers need one and none is configured."""
    if house.settings.document.auth.mode == "none" or house.settings.keys or await house.store.list_keys():
        return None
    secret = generate()
    key = new_key(secret, description="the first key")
    await record_act(house.store, ACTOR, "create key", key.id, "the first key")
    await house.store.create_key(key)
    return secret


def _curl(told: Settings, url: str, key: Secret | None, cards: list[ModelCard]) -> str:
    body = {
        "model": cards[0].id if cards else "MODEL",
        "messages": [{"role": "user", "content": "Hello!"}],
        "stream": True,
    }
    held = key.reveal() if key is not None else "$PENSTOCK_API_KEY"
    auth = "" if told.document.auth.mode == "none" else f' -H "Authorization: Bearer {held}"'
    return (
        f"curl -N {url}/v1/chat/completions{auth} -H \"Content-Type: application/json\" -d '{to_json(body).decode()}'"
    )
