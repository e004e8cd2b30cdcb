"""Unfolding a whole answer into a stream of chunks that folds into it again."""

from __future__ import annotations

from typing import Any

from penstock.core.json import to_json
from penstock.schema.request import CHAT


def unfold(answer: dict[str, Any], endpoint: str) -> list[bytes]:
    """The chunks of a stream that says the same: for each choice one with all of it, and one that ends it."""
    frame = {name: value for name, value in answer.items() if name not in ("choices", "usage", "object")}
    frame["object"] = "chat.completion.chunk" if endpoint == CHAT else "text_completion"
    chunks = []
    for choice in answer.get("choices") or ():
        said = _said(choice) if endpoint == CHAT else {**choice, "finish_reason": None}
        over: dict[str, Any] = {"delta": {}} if endpoint == CHAT else {"text": "", "logprobs": None}
        ended = {"index": choice.get("index", 0), **over, "finish_reason": choice.get("finish_reason")}
        chunks += [{**frame, "choices": [said]}, {**frame, "choices": [ended]}]
    if answer.get("usage") is not None:
        chunks.append({**frame, "choices": [], "usage": answer["usage"]})
    return list(map(to_json, chunks))


def _said(choice: dict[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in choice.items() if name != "message"}
    delta = dict(choice.get("message") or {})
    if delta.get("tool_calls"):
        delta["tool_calls"] = [{"index": number, **call} for number, call in enumerate(delta["tool_calls"])]
    return {**rest, "delta": delta, "finish_reason": None}
