"""Folding a stream of chunks into the one answer that it spells, for callers who did not ask for a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from operator import index as at
from typing import Any

from penstock.core.json import parse
from penstock.errors import UpstreamProtocolError
from penstock.schema.request import CHAT

_TEXT = ("content", "reasoning_content", "reasoning", "refusal")
"""The fields of a message that come in parts."""
_PARTS = frozenset({"arguments", "input", "data", "transcript"})
"""The fields of a call, or of a sound, that come in parts."""


async def fold(batches: AsyncGenerator[list[bytes], None], endpoint: str) -> dict[str, Any]:
    """The document that a stream of OpenAI's chunks adds up to.

    Raises ``UpstreamProtocolError`` for a chunk that is none of OpenAI's, or a choice that never finished.
    """
    answer: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    async with aclosing(batches):
        async for batch in batches:
            for payload in batch:
                _add(answer, choices, read_chunk(payload))
    if not choices or any(choice.get("finish_reason") is None for choice in choices.values()):
        raise UpstreamProtocolError("the stream ended before its answer was finished")
    answer["object"] = "chat.completion" if endpoint == CHAT else "text_completion"
    answer["choices"] = [_closed(index, choices[index], endpoint) for index in sorted(choices)]
    usage = answer.pop("usage", None)
    if usage is not None:
        answer["usage"] = usage
    return answer


def read_chunk(payload: bytes) -> dict[str, Any]:
    """One chunk, parsed; ``UpstreamProtocolError`` if it is no JSON object."""
    try:
        chunk = parse(payload)
    except ValueError:
        raise UpstreamProtocolError("a chunk of the stream is not valid JSON") from None
    if not isinstance(chunk, dict):
        raise UpstreamProtocolError("a chunk of the stream is not a JSON object")
    return chunk


def _add(answer: dict[str, Any], choices: dict[int, dict[str, Any]], chunk: dict[str, Any]) -> None:
    answer.update({k: v for k, v in chunk.items() if k not in ("choices", "object") and v is not None})
    try:
        for choice in chunk.get("choices") or ():
            _merge_choice(choices.setdefault(at(choice.get("index", 0)), {}), choice)
    except (AttributeError, TypeError):
        raise UpstreamProtocolError("a chunk of the stream does not have the shape of OpenAI's") from None


def _merge_choice(whole: dict[str, Any], part: dict[str, Any]) -> None:
    for name, value in part.items():
        if name == "delta":
            _merge_delta(whole.setdefault("message", {}), value or {})
        elif name == "text":
            whole["text"] = whole.get("text", "") + (value or "")
        elif name == "logprobs" and isinstance(value, dict):
            _merge_logprobs(whole.setdefault("logprobs", {}), value)
        elif value is not None:
            whole[name] = value


def _merge_logprobs(whole: dict[str, Any], part: dict[str, Any]) -> None:
    for name, entries in part.items():
        if isinstance(entries, list) and isinstance(whole.get(name), list):
            whole[name].extend(entries)
        elif whole.get(name) is None:
            whole[name] = entries


def _merge_delta(message: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        if value is None:
            message.setdefault(name, None)
        elif name == "tool_calls":
            message[name] = _merge_calls(message.get(name) or {}, value)
        elif isinstance(value, dict):
            message[name] = _merge_parts(message.get(name) or {}, value)
        elif message.get(name) and (name in _TEXT or isinstance(value, list)):
            message[name] += value
        else:
            message[name] = value


def _merge_calls(calls: dict[int, dict[str, Any]], deltas: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    for delta in deltas:
        index = delta.get("index")
        call = calls.setdefault(len(calls) if index is None else at(index), {"type": "function"})
        for name, value in delta.items():
            if isinstance(value, dict):
                call[name] = _merge_parts(call.get(name) or ({"arguments": ""} if name == "function" else {}), value)
            elif value and name != "index":
                call[name] = value
    return calls


def _merge_parts(whole: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    for name, value in part.items():
        if name in _PARTS:
            whole[name] = whole.get(name, "") + (value or "")
        elif value is not None:
            whole[name] = value
    return whole


def _closed(index: int, choice: dict[str, Any], endpoint: str) -> dict[str, Any]:
    """A choice in the order and shape of a plain answer."""
    rest = {name: value for name, value in choice.items() if name not in ("index", "message", "finish_reason")}
    if endpoint != CHAT:
        rest.setdefault("text", "")
        rest.setdefault("logprobs", None)
        return {"index": index, **rest, "finish_reason": choice["finish_reason"]}
    message = {"role": "assistant", "content": None, **choice.get("message", {})}
    if isinstance(message.get("tool_calls"), dict):
        message["tool_calls"] = [message["tool_calls"][key] for key in sorted(message["tool_calls"])]
    return {"index": index, "message": message, "logprobs": None, **rest, "finish_reason": choice["finish_reason"]}
