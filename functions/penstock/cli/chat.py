"""``penstock chat``: ask a running server and stream its answer."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from penstock import settings
from penstock.cli.inside import Command
from penstock.core.json import parse, to_json
from penstock.core.sse import DONE, EventDecoder
from penstock.errors import PenstockError, SettingsError, UpstreamUnavailable
from penstock.outbound import HttpClient, Response
from penstock.schema.secret import Secret


def add(command: Command) -> None:
    """Add the command."""
    chat = command("chat", _chat, "Ask a running server and stream its answer.")
    chat.add_argument("prompt")
    chat.add_argument("--model", help="default: the server's first")
    chat.add_argument("--url", help="default: http://127.0.0.1:8000")


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
