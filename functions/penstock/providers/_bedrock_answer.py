"""What Bedrock's Converse answers, in OpenAI's words: a whole message, and the events of a stream as chunks.

What tools of Bedrock's own did on its servers is not told: only what was thought and said, and the calls that the
caller has to make. Thoughts come with their signatures, in the form in which Anthropic's own API gives them.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from typing import Any

from penstock.core.json import to_json
from penstock.errors import UpstreamProtocolError

Document = dict[str, Any]

_FINISHES = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
}
_MALFORMED = ("malformed_model_output", "malformed_tool_use")
_SHAPE = "the answer does not have the shape of Bedrock's"


def answer(document: Document, id: str, model: str) -> Document:
    """A chat completion that says what the document says. Raises ``UpstreamProtocolError`` if it is no answer."""
    try:
        message = _message(document["output"]["message"]["content"])
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finished(document["stopReason"])}
        top = {"id": id, "object": "chat.completion", "created": int(time.time()), "model": model}
        return {**top, "choices": [choice], "usage": usage(document["usage"])}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UpstreamProtocolError(_SHAPE) from None


def finished(reason: Any) -> str:
    """OpenAI's word for why an answer ended. Raises ``UpstreamProtocolError`` for one that is none."""
    if not isinstance(reason, str):
        raise UpstreamProtocolError("the answer ended before it was finished")
    if reason in _MALFORMED:
        raise UpstreamProtocolError(f"the model's answer cannot be read: {reason}")
    return _FINISHES.get(reason, "stop")


def _message(blocks: list[Document]) -> Document:
    called = [block["toolUse"] for block in blocks if "toolUse" in block and "type" not in block["toolUse"]]
    found = [block["reasoningContent"] for block in blocks if "reasoningContent" in block]
    thoughts = [_parts(content.get("reasoningText") or content) for content in found]
    said = "".join(map(_said, blocks))
    ours: Document = {"role": "assistant", "content": said or (None if called else "")}
    if reasoning := "".join(thought["text"] for thought in thoughts):
        ours["reasoning_content"] = reasoning
    if kept := [block for thought in thoughts if (block := _thought(**thought))]:
        ours["thinking_blocks"] = [{"index": number, **thought} for number, thought in enumerate(kept)]
    if called:
        ours["tool_calls"] = [
            {"id": call["toolUseId"], "type": "function", "function": {"name": call["name"], "arguments": _text(call)}}
            for call in called
        ]
    return ours


def _said(block: Document) -> str:
    """The text of a block; of one with citations, the text that they are about."""
    if "citationsContent" in block:
        return "".join(part["text"] for part in block["citationsContent"].get("content") or () if "text" in part)
    return str(block.get("text", ""))


def _parts(content: Document) -> dict[str, str]:
    """What a thought, or a part of one, holds; what only its maker can read is text inside of base64."""
    redacted = base64.b64decode(content.get("redactedContent") or "", validate=True).decode("latin-1")
    return {"text": content.get("text") or "", "signature": content.get("signature") or "", "data": redacted}


def _thought(text: str, signature: str, data: str) -> Document | None:
    """A thought to send back as it is: one that is signed, or can only be read by its maker."""
    if data:
        return {"type": "redacted_thinking", "data": data}
    return {"type": "thinking", "thinking": text, "signature": signature} if signature else None


def _text(call: Document) -> str:
    """A call's arguments."""
    return to_json(call.get("input") or {}).decode()


def usage(counted: Document) -> Document:
    """OpenAI's form of the tokens: the prompt's are all of them, those read from and written to the cache included."""
    read, written = counted.get("cacheReadInputTokens") or 0, counted.get("cacheWriteInputTokens") or 0
    prompt, completion = counted["inputTokens"] + read + written, counted["outputTokens"]
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": read, "cache_creation_tokens": written},
    }


def _told(document: Document) -> Iterator[tuple[str, Document]]:
    """The events in which Bedrock would have streamed an answer."""
    for index, block in enumerate(document["output"]["message"]["content"]):
        at = {"contentBlockIndex": index}
        if call := block.get("toolUse"):
            yield "contentBlockStart", {**at, "start": {"toolUse": call}}
            yield "contentBlockDelta", {**at, "delta": {"toolUse": {"input": _text(call)}}}
        elif thought := block.get("reasoningContent"):
            yield "contentBlockDelta", {**at, "delta": {"reasoningContent": thought.get("reasoningText") or thought}}
        else:
            yield "contentBlockDelta", {**at, "delta": {"text": _said(block)}}
        yield "contentBlockStop", at
    yield "messageStop", {"stopReason": document["stopReason"]}
    yield "metadata", {"usage": document["usage"]}


class Events:
    """Makes chunks of the events of one stream; ``done`` once its last one was read.

    Nothing is given before something is said: until then a failure may still move the request on.
    """

    def __init__(self, id: str, model: str) -> None:
        self.done = False
        self._top = {"id": id, "object": "chat.completion.chunk", "created": int(time.time()), "model": model}
        self._blocks: dict[int, Document] = {}
        self._begun = self._spoke = self._finished = False
        self._calls = self._thoughts = 0

    def read(self, kind: str, event: Document) -> list[bytes]:
        """The chunks that an event stands for; none for one that is not known. Raises ``UpstreamProtocolError``."""
        try:
            return [to_json(chunk) for chunk in self._read(kind, event)]
        except (AttributeError, KeyError, TypeError, ValueError):
            raise UpstreamProtocolError(_SHAPE) from None

    def retell(self, document: Document) -> list[bytes]:
        """The chunks of an answer that came as a whole. Raises ``UpstreamProtocolError`` if it is none."""
        try:
            return [to_json(chunk) for kind, event in _told(document) for chunk in self._read(kind, event)]
        except (AttributeError, KeyError, TypeError, ValueError):
            raise UpstreamProtocolError(_SHAPE) from None

    def _read(self, kind: str, event: Document) -> list[Document]:
        match kind:
            case "contentBlockStart":
                return self._start(event)
            case "contentBlockDelta":
                return self._go_on(self._blocks.setdefault(event["contentBlockIndex"], {}), event["delta"])
            case "contentBlockStop":
                return self._stop(self._blocks.pop(event["contentBlockIndex"], {}))
            case "messageStop":
                return self._finish(event)
            case "metadata":
                return self._end(event)
        return []

    def _start(self, event: Document) -> list[Document]:
        call = event["start"].get("toolUse")
        if call is None or "type" in call:
            return []
        self._blocks[event["contentBlockIndex"]] = {"call": self._calls, "heard": False}
        function = {"name": call["name"], "arguments": ""}
        told = {"index": self._calls, "id": call["toolUseId"], "type": "function", "function": function}
        self._calls += 1
        return self._say({"tool_calls": [told]})

    def _go_on(self, block: Document, delta: Document) -> list[Document]:
        if text := delta.get("text"):
            self._spoke = True
            return self._say({"content": text})
        if thought := delta.get("reasoningContent"):
            return self._think(block, thought)
        arguments = (delta.get("toolUse") or {}).get("input")
        if arguments and "call" in block:
            block["heard"] = True
            return self._argue(block, arguments)
        return []

    def _stop(self, block: Document) -> list[Document]:
        if "call" in block and not block["heard"]:
            return self._argue(block, "{}")
        kept = _thought(**block["thought"]) if "thought" in block else None
        if kept is None:
            return []
        self._thoughts += 1
        return self._say({"thinking_blocks": [{"index": self._thoughts - 1, **kept}]})

    def _finish(self, event: Document) -> list[Document]:
        finish = finished(event["stopReason"])
        self._finished = True
        delta = {} if self._spoke or self._calls else {"content": ""}
        return [*self._begin(), self._chunk(delta, finish)]

    def _end(self, event: Document) -> list[Document]:
        if not self._finished:
            raise UpstreamProtocolError("the stream ended before its answer was finished")
        told = usage(event["usage"])
        self.done = True
        return [{**self._top, "choices": [], "usage": told}]

    def _think(self, block: Document, thought: Document) -> list[Document]:
        """Gather a thought for the end of its block, and say what of it is text."""
        whole = block.setdefault("thought", {"text": "", "signature": "", "data": ""})
        for part, said in _parts(thought).items():
            whole[part] += said
        return self._say({"reasoning_content": thought["text"]}) if thought.get("text") else []

    def _begin(self) -> list[Document]:
        """The chunk that names the role, the first time."""
        if self._begun:
            return []
        self._begun = True
        return [self._chunk({"role": "assistant", "content": None})]

    def _say(self, delta: Document) -> list[Document]:
        return [*self._begin(), self._chunk(delta)]

    def _argue(self, block: Document, arguments: str) -> list[Document]:
        return self._say({"tool_calls": [{"index": block["call"], "function": {"arguments": arguments}}]})

    def _chunk(self, delta: Document, finish: str | None = None) -> Document:
        return {**self._top, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}
