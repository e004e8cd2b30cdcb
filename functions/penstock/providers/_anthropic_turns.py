"""A conversation of OpenAI's wire in the words of Anthropic's: the system prompt, and turns of content blocks.

An answer's thinking comes to callers as ``thinking_blocks``, beside ``reasoning_content``; sent back with the message,
as it came, the model finds its signed thoughts again.
"""

from __future__ import annotations

import re
from typing import Any

from penstock.providers._content import called, image_url, inline
from penstock.providers._line import refused

Block = dict[str, Any]

_NO_ID = re.compile(r"[^A-Za-z0-9_-]")


def conversation(messages: list[dict[str, Any]]) -> tuple[list[Block], list[Block]]:
    """System blocks and turns; neighbours of one role become one turn.

    Raises ``UpstreamRefused``, naming the message, for what cannot be said to Claude.
    """
    system: list[Block] = []
    turns: list[Block] = []
    for number, message in enumerate(messages):
        place = f"messages.{number}"
        role = message["role"]
        if role in ("system", "developer"):
            system += _parts(message.get("content"), place)
        elif role == "user":
            _add(turns, "user", _parts(message.get("content"), place))
        elif role == "assistant":
            _add(turns, "assistant", _said(message, place))
        elif role == "tool":
            _add(turns, "user", [_result(message, place)])
        else:
            raise refused(f"{place}.role: this provider has no role {role!r:.100}.", f"{place}.role")
    if turns and turns[-1]["role"] == "assistant" and (last := turns[-1]["content"][-1])["type"] == "text":
        turns[-1]["content"][-1] = {**last, "text": last["text"].rstrip()}  # else it is refused as the answer's start
    return system, turns


def _add(turns: list[Block], role: str, blocks: list[Block]) -> None:
    if blocks and turns and turns[-1]["role"] == role:
        turns[-1]["content"] += blocks
    elif blocks:
        turns.append({"role": role, "content": blocks})


def _said(message: dict[str, Any], place: str) -> list[Block]:
    """What the assistant thought, said and called, in this order."""
    thoughts = message.get("thinking_blocks")
    blocks = [found for block in thoughts if (found := _thought(block))] if isinstance(thoughts, list) else []
    blocks += _parts(message.get("content"), place)
    if isinstance(message.get("refusal"), str):
        blocks += _parts(message["refusal"], place)
    calls = message.get("tool_calls") or ()
    return blocks + [_call(call, f"{place}.tool_calls.{number}") for number, call in enumerate(calls)]


def _thought(block: Any) -> Block | None:
    """A signed thought as it came; without its signature it would be refused."""
    if not isinstance(block, dict):
        return None
    if block.get("type") == "redacted_thinking":
        return {"type": "redacted_thinking", "data": block.get("data")}
    if not block.get("signature"):
        return None
    return {"type": "thinking", "thinking": block.get("thinking") or "", "signature": block["signature"]}


def _call(call: dict[str, Any], place: str) -> Block:
    name, arguments = called(call, place)
    return {"type": "tool_use", "id": _id(call.get("id"), place), "name": name, "input": arguments}


def _result(message: dict[str, Any], place: str) -> Block:
    block = {"type": "tool_result", "tool_use_id": _id(message.get("tool_call_id"), f"{place}.tool_call_id")}
    content = _parts(message.get("content"), place)
    return {**block, "content": content} if content else block


def _id(value: Any, place: str) -> str:
    """A call's id in the letters that Anthropic takes: other vendors' may have a dot or a colon."""
    if not isinstance(value, str) or not value:
        raise refused(f"{place}: the call needs an id.", place)
    return _NO_ID.sub("_", value)


def _parts(content: Any, place: str) -> list[Block]:
    """Blocks of a message's content; text without a visible letter is left out, for it is refused."""
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    blocks = []
    for number, part in enumerate(content or ()):
        block = _part(part, f"{place}.content.{number}")
        if block["type"] != "text" or block["text"].strip():
            if "cache_control" in part:
                block["cache_control"] = part["cache_control"]
            blocks.append(block)
    return blocks


def _part(part: dict[str, Any], place: str) -> Block:
    kind = part.get("type")
    if kind in ("text", "refusal") and isinstance(part.get(kind), str):
        return {"type": "text", "text": part[kind]}
    if kind == "image_url":
        return {"type": "image", "source": _source(image_url(part), place)}
    file = part.get("file")
    if kind == "file" and isinstance(file, dict) and file.get("file_data"):
        title = {"title": file["filename"]} if isinstance(file.get("filename"), str) else {}
        return {"type": "document", "source": _source(file["file_data"], place), **title}
    raise refused(f"{place}: this provider takes no part of type {kind!r:.100} in this form.", place)


def _source(url: Any, place: str) -> Block:
    """Where the bytes of an image or a document are."""
    if isinstance(url, str) and url.startswith(("https://", "http://")):
        return {"type": "url", "url": url}
    found = inline(url)
    if found is None:
        raise refused(f"{place}: must be an http:// or https:// address, or data:…;base64,…", place)
    return {"type": "base64", "media_type": found[0], "data": found[1]}
