"""What Ollama's own API answers, in OpenAI's words: the lines of a stream as chunks, and embeddings."""

from __future__ import annotations

import base64
import struct
import time
from typing import Any

from penstock.core.json import to_json
from penstock.core.sse import MAX_EVENT
from penstock.errors import UpstreamProtocolError
from penstock.schema.request import CHAT

Document = dict[str, Any]

_SHAPE = "the answer does not have the shape of Ollama's"


class Lines:
    """Bytes in, lines out, however the bytes are cut; blank ones are left out."""

    __slots__ = ("_parts", "_size")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that these bytes complete. Raises ``UpstreamProtocolError`` if one has no end."""
        self._parts.append(data)
        self._size += len(data)
        if b"\n" not in data:
            if self._size > MAX_EVENT:
                raise UpstreamProtocolError(f"one line of the stream is longer than {MAX_EVENT} bytes")
            return []
        *lines, rest = b"".join(self._parts).split(b"\n")
        self._parts, self._size = [rest], len(rest)
        return [line for line in lines if line.strip()]

    def last(self) -> list[bytes]:
        """The line that the stream ended in, without a mark of its end, if there is one."""
        line = b"".join(self._parts)
        return [line] if line.strip() else []


class Speech:
    """Makes chunks of the lines of one stream, of a chat or a text; ``done`` once its last one was read."""

    def __init__(self, endpoint: str, request_id: str) -> None:
        self.done = False
        self._chat = endpoint == CHAT
        self._id = request_id
        self._top: Document = {
            "id": f"{'chatcmpl' if self._chat else 'cmpl'}-{request_id}",
            "object": "chat.completion.chunk" if self._chat else "text_completion",
            "created": int(time.time()),
        }
        self._begun = False
        self._calls = 0

    def read(self, line: Document) -> list[bytes]:
        """The chunks that a line stands for. Raises ``UpstreamProtocolError`` for what is none of Ollama's."""
        try:
            self._top["model"] = line["model"]
            deltas = self._deltas(line["message"]) if self._chat else self._texts(line.get("response"))
            chunks = [self._chunk(delta) for delta in deltas]
            if line.get("logprobs") and chunks:
                chunks[-1]["choices"][0]["logprobs"] = {"content": [_logprob(entry) for entry in line["logprobs"]]}
            if line.get("done"):
                chunks += self._end(line)
            return [to_json(chunk) for chunk in chunks]
        except (AttributeError, KeyError, TypeError, ValueError):
            raise UpstreamProtocolError(_SHAPE) from None

    def _deltas(self, message: Document) -> list[Document]:
        deltas: list[Document] = []
        if not self._begun:
            self._begun = True
            deltas.append({"role": "assistant", "content": ""})
        if message.get("thinking"):
            deltas.append({"reasoning_content": message["thinking"]})
        if message.get("content"):
            deltas.append({"content": message["content"]})
        return deltas + [{"tool_calls": [self._call(call)]} for call in message.get("tool_calls") or ()]

    def _texts(self, text: str | None) -> list[Document]:
        return [{"text": text}] if text else []

    def _call(self, call: Document) -> Document:
        """A call, which comes whole; older versions give it no id."""
        number, self._calls = self._calls, self._calls + 1
        arguments = to_json(call["function"].get("arguments") or {}).decode()
        return {
            "index": number,
            "id": call.get("id") or f"call_{self._id}_{number}",
            "type": "function",
            "function": {"name": call["function"]["name"], "arguments": arguments},
        }

    def _end(self, line: Document) -> list[Document]:
        self.done = True
        finish = "length" if line.get("done_reason") == "length" else "tool_calls" if self._calls else "stop"
        prompt, completion = line.get("prompt_eval_count") or 0, line.get("eval_count") or 0
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        end = self._chunk({} if self._chat else {"text": ""}, finish)
        return [end, {**self._top, "choices": [], "usage": usage}]

    def _chunk(self, said: Document, finish: str | None = None) -> Document:
        inner = {"delta": said} if self._chat else said
        return {**self._top, "choices": [{"index": 0, **inner, "logprobs": None, "finish_reason": finish}]}


def _logprob(entry: Document) -> Document:
    """One token's probability, with its bytes where Ollama does not give them."""
    own = entry.get("bytes") or list(entry["token"].encode())
    ours = {"token": entry["token"], "logprob": entry["logprob"], "bytes": own}
    if "top_logprobs" in entry:
        ours["top_logprobs"] = [_logprob(other) for other in entry["top_logprobs"] or ()]
    return ours


def embeddings(document: Document, model: str, *, packed: bool) -> Document:
    """OpenAI's form of vectors, ``packed`` as base64 of 32-bit floats. Raises ``UpstreamProtocolError``."""
    try:
        vectors = [_pack(vector) if packed else vector for vector in document["embeddings"]]
        tokens = document.get("prompt_eval_count") or 0
    except (KeyError, OverflowError, TypeError, ValueError, struct.error):
        raise UpstreamProtocolError(_SHAPE) from None
    data = [{"object": "embedding", "index": number, "embedding": vector} for number, vector in enumerate(vectors)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": document.get("model") or model, "usage": usage}


def _pack(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
