"""``penstock``: serve, make keys, look around."""

from __future__ import annotations

import argparse
import asyncio
import re
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import fields
from io import TextIOWrapper
from typing import Any, TypeVar

from penstock import __version__, settings, telemetry
from penstock.bootstrap import SIMULATED, build
from penstock.core.json import parse, to_json
from penstock.core.keys import generate, new_key, record_act
from penstock.core.sse import DONE, EventDecoder
from penstock.errors import PenstockError, SettingsError, UpstreamUnavailable
from penstock.house import House
from penstock.outbound import HttpClient, Response
from penstock.schema.key import EVERY, SCOPES
from penstock.schema.limit import Budget, Limits
from penstock.schema.model import ModelCard
from penstock.schema.secret import Secret
from penstock.settings import Settings

ACTOR = "command line"
"""Who acts, in the audit trail, when a command does."""

Stated = TypeVar("Stated", Limits, Budget)


def main(arguments: list[str] | None = None) -> None:
    """Run one command. A mistake is one line on standard error and exit status 2."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may lack a letter of an answer
    try:
        sys.exit(options.run(options))
    except PenstockError as error:
        print(f"penstock: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="penstock", description="A serverless inference gateway.")
    parser.add_argument("--version", action="version", version=f"penstock {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    place = argparse.ArgumentParser(add_help=False)
    place.add_argument("--config", help="config.yaml (default: $PENSTOCK_CONFIG, else what is found around)")
    place.add_argument("--state", help="sqlite:///path or dynamodb://prefix (default: $PENSTOCK_STATE_URL)")
    place.add_argument("--queue", help="sqlite:///path or sqs://… (default: $PENSTOCK_QUEUE_URL)")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str, within: Any = commands) -> Any:
        made = within.add_parser(name, help=text, description=text, parents=[place])
        made.set_defaults(run=run)
        return made

    serve = command("serve", _serve, "Serve OpenAI's API.")
    serve.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    serve.add_argument("--port", type=int, help="port to listen on (default: 8000)")
    serve.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
    keys = commands.add_parser("keys", help="Make, list and revoke keys.").add_subparsers(
        required=True, metavar="action"
    )
    new = command("new", _keys_new, "Make a key and show it once.", keys)
    new.add_argument("--description", default="")
    new.add_argument("--owner", default="")
    new.add_argument("--priority", type=int, default=0)
    new.add_argument("--scope", action="append", choices=sorted(SCOPES), help="may be repeated (default: inference)")
    new.add_argument("--model", action="append", help="glob of models that the key may use; may be repeated")
    new.add_argument("--provider", action="append", help="glob of providers that it is pinned to; may be repeated")
    new.add_argument("--limit", action="append", metavar="NAME=N", help="such as requests_per_minute=600; repeatable")
    new.add_argument("--budget", action="append", metavar="PERIOD=DOLLARS", help="such as daily=2.5; repeatable")
    new.add_argument("--days", type=float, help="days until the key expires")
    command("list", _keys_list, "List keys, without the keys themselves.", keys)
    command("revoke", _keys_revoke, "Revoke a key for good.", keys).add_argument("id")
    made = command(
        "generate", _keys_generate, "Print a random key and keep nothing: for ROUTER_API_KEY or API_KEYS.", keys
    )
    made.add_argument("--length", type=int, default=40)
    made.add_argument("--prefix", default="psk")
    command("models", _models, "List the models that are found.")
    command("doctor", _doctor, "Say what is configured, reachable and missing.")
    chat = command("chat", _chat, "Ask a running server and stream its answer.")
    chat.add_argument("prompt")
    chat.add_argument("--model", help="default: the server's first")
    chat.add_argument("--url", help="default: http://127.0.0.1:8000")
    return parser


def _settings(options: argparse.Namespace, **listen: Any) -> Settings:
    return settings.load(config=options.config, state=options.state, queue=options.queue, **listen)


def _inside(options: argparse.Namespace, act: Callable[[House], Awaitable[int]], level: str = "WARNING") -> int:
    """Run ``act`` with an open house; log lines of this level and above are told to a person."""

    async def run() -> int:
        house = build(_settings(options))
        telemetry.configure(level, "plain")
        try:
            await house.open()
            return await act(house)
        finally:
            await house.close()

    return asyncio.run(run())


# serve


def _serve(options: argparse.Namespace) -> int:
    from penstock.server import run  # noqa: PLC0415 - only this command needs a server

    if options.workers < 1:
        raise SettingsError("must be at least 1", setting="--workers")
    told = _settings(options, host=options.host, port=options.port)
    server = told.document.server
    _check_port(server.host, server.port)
    asyncio.run(_greet(told))
    settings.export(told)
    run(server, options.workers)
    return 0


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
        key = await _first_key(house)
        await house.registry.refresh()
        cards = await house.registry.cards()
    finally:
        await house.close()
    server = told.document.server
    url = f"http://{f'[{server.host}]' if ':' in server.host else server.host}:{server.port}"
    lines = [f"Penstock {__version__} on {url}", f"  state   {told.state_url}", f"  models  {_named(cards)}"]
    if key is not None:
        lines.append(f"  key     {key.reveal()}   (shown this once; more with: penstock keys new)")
    lines += ["", "Try it:", f"  {_curl(told, url, key, cards)}", ""]
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


def _named(cards: list[ModelCard]) -> str:
    if not cards:
        return "none yet: no provider lists any (penstock doctor says why)"
    names = ", ".join(card.id for card in cards[:8]) + (f" and {len(cards) - 8} more" if len(cards) > 8 else "")
    simulated = all(card.provider_type == SIMULATED for card in cards)
    return names + ("   (simulated: no engine and no provider key was found)" if simulated else "")


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


# keys


def _keys_new(options: argparse.Namespace) -> int:
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

    return _inside(options, act)


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


def _keys_list(options: argparse.Namespace) -> int:
    async def act(house: House) -> int:
        for key in await house.store.list_keys():
            state = "revoked" if key.revoked_at else "active" if key.active(time.time()) else "expired"
            made = time.strftime("%Y-%m-%d %H:%M", time.gmtime(key.created_at))
            print(f"{key.id}  {state:8} {made}  {key.hint}  {','.join(key.scopes)}  {key.owner}  {key.description}")
        return 0

    return _inside(options, act)


def _keys_revoke(options: argparse.Namespace) -> int:
    async def act(house: House) -> int:
        if await house.store.read_key(options.id) is None:
            raise SettingsError(f"there is no key {options.id!r}; penstock keys list shows those that there are")
        await record_act(house.store, ACTOR, "revoke key", options.id)
        await house.store.revoke_key(options.id, time.time())
        print(f"{options.id} is revoked; every process refuses it within 5 seconds.")
        return 0

    return _inside(options, act)


def _keys_generate(options: argparse.Namespace) -> int:
    if not 16 <= options.length <= 256:
        raise SettingsError("must be from 16 to 256", setting="--length")
    if not re.fullmatch(r"[A-Za-z0-9_-]{0,64}", options.prefix):
        raise SettingsError("must be at most 64 letters, digits, - and _", setting="--prefix")
    print(generate(options.length, options.prefix).reveal())
    return 0


# looking around


def _models(options: argparse.Namespace) -> int:
    async def act(house: House) -> int:
        await house.registry.refresh()
        for card in await house.registry.cards():
            print(f"{card.id}  {card.owned_by}")
        return 0

    return _inside(options, act)


def _doctor(options: argparse.Namespace) -> int:
    async def act(house: House) -> int:
        told = house.settings
        await house.store.ping()
        print(f"configuration  {told.config_path or 'none: what is found around is used'}")
        print(f"state          {told.state_url}: reads and writes")
        keys = [key for key in await house.store.list_keys() if key.active(time.time())]
        mode = told.document.auth.mode
        print(f"keys           {len(keys)} active in the state, {len(told.keys)} configured, mode {mode}")
        failed = 0
        for provider, problem in await house.registry.examine():
            failed += problem is not None
            print(f"provider       {provider}: {problem or 'reachable'}")
        cards = await house.registry.cards()
        print(f"models         {_named(cards)}")
        return 1 if failed and told.config_path else 0

    return _inside(options, act, "ERROR")


def _chat(options: argparse.Namespace) -> int:
    return asyncio.run(_ask(options, settings.client_key()))


async def _ask(options: argparse.Namespace, key: Secret | None) -> int:
    client = HttpClient()
    base = (options.url or "http://127.0.0.1:8000").rstrip("/")
    headers = [("content-type", "application/json")] + ([("authorization", f"Bearer {key.reveal()}")] if key else [])
    deadline = asyncio.get_running_loop().time() + 600

    async def call(method: str, path: str, body: bytes = b"") -> Response:
        try:
            answer = await client.request(method, base + path, headers=headers, body=body, deadline=deadline)
        except UpstreamUnavailable as error:
            raise SettingsError(f"{error}: start a server with `penstock serve`, or name one with --url") from None
        except ValueError:
            raise SettingsError(f"{base!r} is not an http:// or https:// address", setting="--url") from None
        if answer.status != 200:
            raise _refusal(base, answer.status, await answer.read())
        return answer

    try:
        model = options.model or _first_model(base, await (await call("GET", "/v1/models")).read())
        body = {"model": model, "messages": [{"role": "user", "content": options.prompt}], "stream": True}
        answer = await call("POST", "/v1/chat/completions", to_json(body))
        decoder = EventDecoder()
        payload = b""
        while data := await answer.chunk():
            for payload in decoder.feed(data):
                if payload != DONE:
                    _show(parse(payload))
        print()
        if payload != DONE:
            raise PenstockError("the answer broke off")
        return 0
    finally:
        await client.aclose()


def _first_model(base: str, body: bytes) -> str:
    try:
        models = parse(body)["data"]
        return str(models[0]["id"])
    except IndexError:
        raise SettingsError(f"{base} has no model for this key; on its machine, `penstock doctor` says why") from None
    except (ValueError, KeyError, TypeError):
        raise SettingsError(f"{base} is no server of OpenAI's API: name one with --url") from None


def _show(chunk: dict[str, Any]) -> None:
    if chunk.get("error"):
        print(flush=True)
        raise PenstockError(f"the answer broke off: {chunk['error'].get('message')}")
    for choice in chunk.get("choices", ()):
        print(choice["delta"].get("content") or "", end="", flush=True)


def _refusal(base: str, status: int, body: bytes) -> PenstockError:
    try:
        message = str(parse(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return PenstockError(f"{base} answered with status {status} and no reason: is it a Penstock server?")
    return PenstockError(f"{message} Set PENSTOCK_API_KEY to a key of this server." if status == 401 else message)
