"""What comes over OpenAI's wire as an answer: whether it is one, when it begins, and whether it is whole."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from penstock.core.fold import read_chunk
from penstock.core.sse import DONE
from penstock.errors import UpstreamError, UpstreamProtocolError
from penstock.schema.request import CHAT, COMPLETIONS, EMBEDDINGS, GENERATIVE, IMAGES

GAVE_UP = frozenset({"abort", "error", "insufficient_system_resource", "network_error"})
"""Reasons to finish by which SGLang and vLLM, OpenRouter, DeepSeek and Zhipu say that an answer broke off."""
KEPT = 16
"""Chunks that say nothing yet, to be given with the first that does; engines that send more say nothing new in them."""
_UNFINISHED = "the answer ended before it was finished"
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"([^"]+)"')
_PARTS: dict[str, tuple[tuple[str, ...], type | tuple[type, ...]]] = {
    CHAT: (("message",), dict),
    COMPLETIONS: (("text",), str),
    EMBEDDINGS: (("embedding",), (list, str)),
    IMAGES: (("b64_json", "url"), str),
}
"""What each entry of an answer must hold, under one of these names, and of which kind."""

Judge = Callable[[Any], UpstreamError | None]


class Chunks:
    """The payloads of one stream. ``judge`` tells the error that a document stands for, if it is one.

    Nothing is given before something is said: until then a failure may still move the request on. ``done`` is whether
    ``[DONE]`` came, ``count`` the payloads that came, once something was said.
    """

    def __init__(self, judge: Judge) -> None:
        self.done = False
        self.count = self._seen = 0
        self._judge = judge
        self._begun = self._finished = False
        self._kept: list[bytes] = []

    def read(self, payloads: list[bytes]) -> tuple[list[bytes], UpstreamError | None]:
        """What to give to the caller now, and the failure that ended it, if one did."""
        begun, batch, error = self._begun, [], None
        try:
            for payload in payloads:
                if payload == DONE:
                    self._end()
                    break
                self._look_at(payload)
                self._seen += 1
                if self._begun or self._seen <= KEPT:
                    batch.append(payload)
        except UpstreamError as found:
            error = found
        self.count = self._seen if self._begun else 0
        if not self._begun:
            self._kept += batch
        if not self._begun or (error and not begun):
            return [], error
        batch, self._kept = self._kept + batch, []
        return batch, error

    def _end(self) -> None:
        self.done = True
        if not self._finished:
            raise UpstreamProtocolError(_UNFINISHED)

    def _look_at(self, payload: bytes) -> None:
        if not payload.isascii():
            _must_be_text(payload)
        if b'"error"' in payload and (error := self._judge(_parsed(payload))):
            raise error
        if found := _FINISH.search(payload):
            _must_be_meant(found[1].decode())
            self._finished = True
        if not self._begun:
            self._begun = says_something(read_chunk(payload))


def says_something(chunk: dict[str, Any]) -> bool:
    """Whether a chunk holds a part of the answer, or its end. Raises ``UpstreamProtocolError`` if it is none."""
    try:
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            told = [value for name, value in delta.items() if name != "role"]
            if any(told) or choice.get("text") or choice.get("finish_reason"):
                return True
    except (AttributeError, TypeError):
        raise UpstreamProtocolError("a chunk of the stream does not have the shape of OpenAI's") from None
    return False


def check(document: dict[str, Any], endpoint: str) -> None:
    """Raise ``UpstreamProtocolError`` unless a document is a whole answer."""
    generates = endpoint in GENERATIVE
    entries = document.get("choices" if generates else "data")
    if not entries or not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UpstreamProtocolError("the answer has nothing in it")
    fields, kind = _PARTS[endpoint]
    if not all(any(isinstance(entry.get(field), kind) for field in fields) for entry in entries):
        raise UpstreamProtocolError(f"the answer has no {' or '.join(fields)} in it")
    if not generates:
        return
    for choice in entries:
        reason = choice.get("finish_reason")
        if not reason or not isinstance(reason, str):
            raise UpstreamProtocolError(_UNFINISHED)
        _must_be_meant(reason)


def _must_be_meant(reason: str) -> None:
    if reason in GAVE_UP:
        raise UpstreamProtocolError("the provider gave up in mid-answer")


def _must_be_text(payload: bytes) -> None:
    try:
        payload.decode()
    except UnicodeDecodeError:
        raise UpstreamProtocolError("a chunk of the stream is not valid UTF-8") from None


def _parsed(payload: bytes) -> Any:
    try:
        return read_chunk(payload)
    except UpstreamProtocolError:
        return None
