"""What Anthropic's Messages API answers, in OpenAI's words: a whole message, and the events of a stream as chunks.

What tools of Anthropic's own did on its servers is not told: only what was thought and said, and the calls that the
caller has to make.
"""

from __future__ import annotations

import time
from typing import Any

from penstock.core.json import to_json
from penstock.errors import UpstreamProtocolError

Document = dict[str, Any]

_FINISHES = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_SHAPE = "the answer does not have the shape of Anthropic's"


def answer(message: Document) -> Document:
    """A chat completion that says what the message says. Raises ``UpstreamProtocolError`` if it is none."""
    try:
        blocks = message["content"]
        if not isinstance(message["stop_reason"], str):
            raise UpstreamProtocolError("the answer ended before it was finished")
        finish = _FINISHES.get(message["stop_reason"], "stop")
        choice = {"index": 0, "message": _message(blocks, message), "logprobs": None, "finish_reason": finish}
        return {**_top(message, "chat.completion"), "choices": [choice], "usage": usage(message["usage"])}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UpstreamProtocolError(_SHAPE) from None


def _top(message: Document, kind: str) -> Document:
    return {"id": message["id"], "object": kind, "created": int(time.time()), "model": message["model"]}


def _message(blocks: list[Document], message: Document) -> Document:
    said = "".join(block["text"] for block in blocks if block["type"] == "text")
    called = [block for block in blocks if block["type"] == "tool_use"]
    thought = [block for block in blocks if block["type"] in ("thinking", "redacted_thinking")]
    ours: Document = {"role": "assistant", "content": said or (None if called else "")}
    if reasoning := "".join(block.get("thinking", "") for block in thought):
        ours["reasoning_content"] = reasoning
    if thought:
        ours["thinking_blocks"] = [_thought(number, block) for number, block in enumerate(thought)]
    if called:
        ours["tool_calls"] = [
            {"id": block["id"], "type": "function", "function": {"name": block["name"], "arguments": _text(block)}}
            for block in called
        ]
    return {**ours, **_refusal(message)}


def _thought(number: int, block: Document) -> Document:
    """A thinking block to send back as it is; its index helps clients to put a stream together."""
    if block["type"] == "redacted_thinking":
        return {"index": number, "type": "redacted_thinking", "data": block["data"]}
    signature = block.get("signature") or ""
    return {"index": number, "type": "thinking", "thinking": block["thinking"], "signature": signature}


def _text(block: Document) -> str:
    """A call's arguments."""
    return to_json(block.get("input") or {}).decode()


def _refusal(stop: Document) -> Document:
    """Why the model would not answer, where it says so."""
    details = stop.get("stop_details")
    return {"refusal": details["explanation"]} if details and details.get("explanation") else {}


def usage(counted: Document) -> Document:
    """OpenAI's form of the tokens: the prompt's are all of them, those read from and written to the cache included."""
    read, written = counted.get("cache_read_input_tokens") or 0, counted.get("cache_creation_input_tokens") or 0
    prompt, completion = (counted.get("input_tokens") or 0) + read + written, counted.get("output_tokens") or 0
    ours = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": read, "cache_creation_tokens": written},
    }
    if thinking := counted.get("output_tokens_details"):
        ours["completion_tokens_details"] = {"reasoning_tokens": thinking.get("thinking_tokens") or 0}
    return ours


class Events:
    """Makes chunks of the events of one stream; ``done`` once its last one was read.

    Nothing is given before the first block begins: until then a failure may still move the request on.
    """

    def __init__(self) -> None:
        self.done = False
        self._top: Document = {}
        self._usage: Document = {}
        self._blocks: dict[int, Document] = {}
        self._begun = self._spoke = self._finished = False
        self._calls = self._thoughts = 0

    def read(self, event: Document) -> list[bytes]:
        """The chunks that an event stands for; none for one that is not known. Raises ``UpstreamProtocolError``."""
        reader = getattr(self, f"_on_{event.get('type')}", None)
        try:
            return [to_json(chunk) for chunk in reader(event)] if reader else []
        except (AttributeError, KeyError, TypeError, ValueError):
            raise UpstreamProtocolError(_SHAPE) from None

    def _on_message_start(self, event: Document) -> list[Document]:
        self._top = _top(event["message"], "chat.completion.chunk")
        self._usage.update(event["message"]["usage"])
        return []

    def _on_content_block_start(self, event: Document) -> list[Document]:
        block = self._blocks[event["index"]] = {"heard": False, **event["content_block"]}
        if block["type"] == "text":
            return self._begin() + self._say(block["text"])
        if block["type"] == "tool_use":
            block["call"], self._calls = self._calls, self._calls + 1
            function = {"name": block["name"], "arguments": ""}
            call = {"index": block["call"], "id": block["id"], "type": "function", "function": function}
            return [*self._begin(), self._chunk({"tool_calls": [call]})]
        return self._begin()

    def _on_content_block_delta(self, event: Document) -> list[Document]:
        block, delta = self._blocks[event["index"]], event["delta"]
        if delta["type"] == "text_delta":
            return self._say(delta["text"])
        if delta["type"] == "input_json_delta" and block["type"] == "tool_use" and delta["partial_json"]:
            block["heard"] = True
            return [self._argue(block, delta["partial_json"])]
        if delta["type"] == "signature_delta":
            block["signature"] = (block.get("signature") or "") + delta["signature"]
        if delta["type"] == "thinking_delta" and delta["thinking"]:
            block["thinking"] += delta["thinking"]
            return [self._chunk({"reasoning_content": delta["thinking"]})]
        return []

    def _on_content_block_stop(self, event: Document) -> list[Document]:
        block = self._blocks.pop(event["index"])
        if block["type"] == "tool_use" and not block["heard"]:
            return [self._argue(block, _text(block))]
        if block["type"] in ("thinking", "redacted_thinking"):
            self._thoughts += 1
            return [self._chunk({"thinking_blocks": [_thought(self._thoughts - 1, block)]})]
        return []

    def _on_message_delta(self, event: Document) -> list[Document]:
        self._usage.update({name: value for name, value in event["usage"].items() if value is not None})
        reason = event["delta"].get("stop_reason")
        if reason is None:
            return []
        self._finished = True
        delta = {} if self._spoke or self._calls else {"content": ""}
        end = self._chunk({**delta, **_refusal(event["delta"])}, _FINISHES.get(reason, "stop"))
        return [*self._begin(), end]

    def _on_message_stop(self, event: Document) -> list[Document]:
        if not self._finished:
            raise UpstreamProtocolError("the stream ended before its answer was finished")
        self.done = True
        return [{**self._top, "choices": [], "usage": usage(self._usage)}]

    def _begin(self) -> list[Document]:
        """The chunk that names the role, the first time."""
        if self._begun:
            return []
        self._begun = True
        return [self._chunk({"role": "assistant", "content": None})]

    def _say(self, text: str) -> list[Document]:
        self._spoke = self._spoke or bool(text)
        return [self._chunk({"content": text})] if text else []

    def _argue(self, block: Document, arguments: str) -> Document:
        return self._chunk({"tool_calls": [{"index": block["call"], "function": {"arguments": arguments}}]})

    def _chunk(self, delta: Document, finish: str | None = None) -> Document:
        return {**self._top, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}
