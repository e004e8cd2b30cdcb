"""A conversation of OpenAI's wire in the words of Bedrock's Converse: the system prompt, and turns of content blocks.

An answer's signed thoughts come to callers as ``thinking_blocks``, as from Anthropic's own API; sent back with the
message, as they came, the model finds them again.
"""

from __future__ import annotations

import base64
import re
from typing import Any

from penstock.providers._content import called, image_url, inline
from penstock.providers._line import refused

Block = dict[str, Any]

_IMAGES = {"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
_OFFICE = "application/vnd.openxmlformats-officedocument."
_DOCUMENTS = {
    "application/pdf": "pdf",
    "application/msword": "doc",
    "application/vnd.ms-excel": "xls",
    f"{_OFFICE}wordprocessingml.document": "docx",
    f"{_OFFICE}spreadsheetml.sheet": "xlsx",
    "text/csv": "csv",
    "text/html": "html",
    "text/markdown": "md",
    "text/plain": "txt",
}
_NO_ID = re.compile(r"[^A-Za-z0-9_.:-]")
_NO_ID_OF_CLAUDES = re.compile(r"[^A-Za-z0-9_-]")


def conversation(messages: list[Block], *, claude: bool) -> tuple[list[Block], list[Block]]:
    """System blocks and turns; neighbours of one role become one turn. ``claude`` says who listens.

    Raises ``UpstreamRefused``, naming the message, for what cannot be said in Converse.
    """
    teller = _Teller(_NO_ID_OF_CLAUDES if claude else _NO_ID)
    system: list[Block] = []
    turns: list[Block] = []
    for number, message in enumerate(messages):
        place = f"messages.{number}"
        role = message["role"]
        if role in ("system", "developer"):
            system += teller.parts(message.get("content"), place)
        elif role == "user":
            _add(turns, "user", teller.parts(message.get("content"), place))
        elif role == "assistant":
            _add(turns, "assistant", teller.said(message, place))
        elif role == "tool":
            _add(turns, "user", teller.result(message, place))
        else:
            raise refused(f"{place}.role: this provider has no role {role!r:.100}.", f"{place}.role")
    if turns and turns[-1]["role"] == "assistant" and "text" in (last := turns[-1]["content"][-1]):
        turns[-1]["content"][-1] = {"text": last["text"].rstrip()}  # else it is refused as the answer's start
    return system, turns


def cache_point(part: Block) -> list[Block]:
    """The mark behind a part that a caller wants cached, in the way that Anthropic's API marks the part itself."""
    control = part.get("cache_control")
    if not isinstance(control, dict):
        return []
    ttl = {"ttl": control["ttl"]} if "ttl" in control else {}
    return [{"cachePoint": {"type": "default", **ttl}}]


def _add(turns: list[Block], role: str, blocks: list[Block]) -> None:
    if blocks and turns and turns[-1]["role"] == role:
        turns[-1]["content"] += blocks
    elif blocks:
        turns.append({"role": role, "content": blocks})


class _Teller:
    """Tells one conversation; documents are numbered, for each needs a name of its own that says nothing."""

    def __init__(self, no_id: re.Pattern[str]) -> None:
        self._no_id = no_id
        self._documents = 0

    def said(self, message: Block, place: str) -> list[Block]:
        """What the assistant thought, said and called, in this order."""
        thoughts = message.get("thinking_blocks")
        blocks = [found for block in thoughts if (found := _thought(block))] if isinstance(thoughts, list) else []
        blocks += self.parts(message.get("content"), place)
        if isinstance(message.get("refusal"), str):
            blocks += self.parts(message["refusal"], place)
        calls = message.get("tool_calls") or ()
        return blocks + [self._call(call, f"{place}.tool_calls.{number}") for number, call in enumerate(calls)]

    def result(self, message: Block, place: str) -> list[Block]:
        """What a tool answered, and the mark behind it if it is to be cached."""
        blocks = self.parts(message.get("content"), place)
        content = [block for block in blocks if "cachePoint" not in block]
        call_id = self._id(message.get("tool_call_id"), f"{place}.tool_call_id")
        marks = blocks[-1:] if len(content) < len(blocks) else []
        return [{"toolResult": {"toolUseId": call_id, "content": content}}, *marks]

    def parts(self, content: Any, place: str) -> list[Block]:
        """Blocks of a message's content; text without a visible letter is left out, for it is refused."""
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        blocks = []
        for number, part in enumerate(content or ()):
            block = self._part(part, f"{place}.content.{number}")
            if "text" not in block or block["text"].strip():
                blocks += [block, *cache_point(part)]
        return blocks

    def _part(self, part: Block, place: str) -> Block:
        kind = part.get("type")
        if kind in ("text", "refusal") and isinstance(part.get(kind), str):
            return {"text": part[kind]}
        if kind == "image_url":
            return {"image": _source(image_url(part), _IMAGES, place)}
        file = part.get("file")
        if kind == "file" and isinstance(file, dict) and file.get("file_data"):
            self._documents += 1
            return {
                "document": {"name": f"document-{self._documents}", **_source(file["file_data"], _DOCUMENTS, place)}
            }
        raise refused(f"{place}: this provider takes no part of type {kind!r:.100} in this form.", place)

    def _call(self, call: Block, place: str) -> Block:
        name, arguments = called(call, place)
        return {"toolUse": {"toolUseId": self._id(call.get("id"), place), "name": name, "input": arguments}}

    def _id(self, value: Any, place: str) -> str:
        """A call's id in the letters that the listener takes: other vendors' may have others."""
        if not isinstance(value, str) or not value:
            raise refused(f"{place}: the call needs an id.", place)
        return self._no_id.sub("_", value)


def _thought(block: Any) -> Block | None:
    """A signed thought as it came; without its signature it would be refused."""
    if not isinstance(block, dict):
        return None
    if block.get("type") == "redacted_thinking":
        return _redacted(block.get("data"))
    if not block.get("signature"):
        return None
    text = {"text": block.get("thinking") or "", "signature": block["signature"]}
    return {"reasoningContent": {"reasoningText": text}}


def _redacted(data: Any) -> Block | None:
    try:
        return {"reasoningContent": {"redactedContent": base64.b64encode(data.encode("latin-1")).decode()}}
    except (AttributeError, UnicodeEncodeError):  # none of Bedrock's
        return None


def _source(url: Any, formats: dict[str, str], place: str) -> Block:
    """Format and bytes of an image or a document, which are sent along."""
    found = inline(url)
    if found is None:
        example = "application/pdf" if formats is _DOCUMENTS else "image/png"
        raise refused(f"{place}: this provider fetches nothing: send it as data:{example};base64,…", place)
    kind, data = found
    if kind.lower() not in formats:
        raise refused(f"{place}: this provider takes no {kind:.100}; it takes {', '.join(formats)}.", place)
    return {"format": formats[kind.lower()], "source": {"bytes": data}}
