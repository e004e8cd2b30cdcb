"""What the house looks for in a stream that it relays as bytes: the model's name, the usage, the first token."""

from __future__ import annotations

import re
from typing import Any

from penstock.core.fold import read_chunk
from penstock.core.json import to_json
from penstock.schema.outcome import Usage

MAX_TOKENS = 2**40
_MODEL = re.compile(rb'"model"\s*:\s*"(?:[^"\\]|\\.)*"')


class Relay:
    """One stream on its way through. Payloads are parsed only when their bytes show a reason to."""

    __slots__ = ("_name", "_public", "_show_usage", "_theirs", "usage")

    def __init__(self, model: str, *, show_usage: bool) -> None:
        self._name = model
        self._show_usage = show_usage
        self._public = b""
        self._theirs: bytes | None = None
        self.usage: Usage | None = None

    def see(self, batch: list[bytes]) -> list[bytes]:
        """The batch as the caller gets it. Raises ``UpstreamProtocolError`` for what is no chunk."""
        if self._theirs is None:
            self._learn(batch[0])
        theirs, public = self._theirs, self._public
        out = []
        for payload in batch:
            if not theirs or b'"usage"' in payload or not _plainly(theirs, payload):
                if (rewritten := self._look_inside(payload)) is None:
                    continue
                payload = rewritten
            elif theirs is not public:
                payload = payload.replace(theirs, public, 1)
            out.append(payload)
        return out

    def _learn(self, payload: bytes) -> None:
        """Remember how this upstream writes its model's name, where that is unmistakable."""
        found = _MODEL.findall(payload)
        if len(found) == 1 and found[0].endswith(to_json(read_chunk(payload).get("model"))):
            self._theirs = found[0]
            name = found[0][: found[0].index(b":") + 1] + to_json(self._name)
            self._public = found[0] if name == found[0] else name
        else:
            self._theirs = b""

    def _look_inside(self, payload: bytes) -> bytes | None:
        chunk = read_chunk(payload)
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self.usage = read_usage(usage)
            if not self._show_usage:
                if not chunk.get("choices"):
                    return None
                del chunk["usage"]
        elif chunk.get("model") == self._name:
            return payload
        chunk["model"] = self._name
        return to_json(chunk)


class AsItCame:
    """A stream that is no text of OpenAI's wire, on its way through: an engine's own."""

    __slots__ = ("usage",)

    def __init__(self) -> None:
        self.usage: Usage | None = None

    def see(self, batch: list[bytes]) -> list[bytes]:
        """The batch."""
        return batch


def _plainly(member: bytes, payload: bytes) -> bool:
    """Whether the member stands in the outermost object, before any inner one, and the object seems whole."""
    at = payload.find(member)
    whole = payload.endswith(b"}") and payload.count(b"{") == payload.count(b"}")
    return at > 0 and payload.find(b"{", 1, at) < 0 and whole


def read_usage(usage: Any) -> Usage | None:
    """The tokens of an OpenAI ``usage`` object; ``None`` if it is none."""
    if not isinstance(usage, dict):
        return None
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if prompt is completion is None:  # of images, which are counted in newer words
        prompt, completion = usage.get("input_tokens"), usage.get("output_tokens")
    return Usage(_count(prompt), _count(completion), _count(cached))


def _count(value: object) -> int:
    """A number of tokens; 0 for what is none, or what no store could hold: it would block the ledger."""
    return value if type(value) is int and 0 < value < MAX_TOKENS else 0
