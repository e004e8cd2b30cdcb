"""What a request says, read out of its body for who has to choose a model for it."""

from __future__ import annotations

import re
from typing import Any

from penstock.core.limits.estimate import asked
from penstock.core.ports.classifier import Prompt
from penstock.errors import InvalidRequest
from penstock.schema.request import CHAT, Request

_BINARY = re.compile(r"(?:data:[\w/+.;=-]{1,100};base64,)?[A-Za-z0-9+/]{512,}={0,2}")


def read(request: Request) -> Prompt:
    """The prompt of a request for text. Raises ``InvalidRequest`` for one that nobody can read."""
    body = request.body
    if request.endpoint == CHAT:
        return _conversation(request)
    prompt = body.get("prompt")
    written = [prompt] if isinstance(prompt, str) else prompt if isinstance(prompt, list) else []
    if not all(isinstance(each, str) for each in written):
        raise InvalidRequest(
            f"prompt: is made of tokens, which nobody can read to choose a model for {request.model!r}: send text,"
            " or name a model.",
            param="prompt",
        )
    characters = sum(map(len, written))
    return Prompt(_strings(body), written[-1] if written else "", characters, max_tokens=asked(request))


def _conversation(request: Request) -> Prompt:
    body = request.body
    messages = [each for each in body.get("messages") or () if isinstance(each, dict)]
    tools = body.get("tools") or body.get("functions")
    turns = [each for each in messages if each.get("role") == "user"]
    parts = [part for each in messages for part in _parts(each)]
    form = body.get("response_format")
    return Prompt(
        texts=_strings(body),
        asked="\n".join(part["text"] for part in _parts(turns[-1]) if "text" in part) if turns else "",
        characters=sum(len(part["text"]) for part in parts if "text" in part),
        turns=len(turns),
        images=sum("text" not in part for part in parts),
        tools=len(tools) if isinstance(tools, list) else 0,
        structured=isinstance(form, dict) and form.get("type") in ("json_schema", "json_object"),
        max_tokens=asked(request),
    )


def _parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The parts of a message: those with a ``text`` that is one, and others, which hold an image or a sound."""
    content = message.get("content")
    if isinstance(content, str):
        return [{"text": content}]
    found: list[dict[str, Any]] = []
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            found.append({"text": part["text"]})
        elif isinstance(part, dict):
            found.append({})
    return found


def _strings(body: dict[str, Any]) -> tuple[str, ...]:
    """Every string that a body holds, names of fields too, but for files that are sent along in base64."""
    found: list[str] = []
    waiting: list[Any] = [body]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            if not _BINARY.fullmatch(value):
                found.append(value)
        elif isinstance(value, dict):
            waiting.extend(value)
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return tuple(found)
