"""Questions with a number in them, the one right answer to each, and a provider that knows it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tests.wire.upstream import DONE, Call, Document, event

IDENTITY = {"id": "cmpl-1", "created": 1_700_000_000, "model": "engine-1"}
PROMPT_TOKENS = 7
MAX_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Way:
    """One way to ask."""

    path: str
    stream: bool = False

    @property
    def chat(self) -> bool:
        """Whether it is a chat."""
        return self.path == "/v1/chat/completions"

    @property
    def embeds(self) -> bool:
        """Whether it asks for an embedding."""
        return self.path == "/v1/embeddings"

    def body(self, number: int) -> Document:
        """The question with this number, without the model's name."""
        question = f"Question {number}"
        if self.embeds:
            return {"input": question, "encoding_format": "float"}
        asked: Document = {"messages": [{"role": "user", "content": question}]} if self.chat else {"prompt": question}
        return {**asked, "max_tokens": MAX_TOKENS, **({"stream": True} if self.stream else {})}


CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
WAYS = {
    "chat": Way(CHAT),
    "streamed-chat": Way(CHAT, stream=True),
    "text": Way(TEXT),
    "streamed-text": Way(TEXT, stream=True),
    "embedding": Way("/v1/embeddings"),
}


def answer(number: int) -> str:
    """The one right answer to a question, of several words, none of which may be missing."""
    return " ".join([f"Answer {number}:", *(f"{'äöü'[turn % 3]}-{number * turn}" for turn in range(1, 9)), "and out."])


def vector(number: int) -> list[float]:
    """The one right embedding."""
    return [float(number), 0.5, -0.25]


def number_of(call: Call) -> int:
    """Which question a provider was asked; 0 for a stranger's, who still looks for whoever had this port before."""
    body = call.json
    asked: Any = body["messages"][-1]["content"] if "messages" in body else body.get("prompt", body.get("input"))
    found = re.search(r"Question (\d+)", str(asked))
    return int(found[1]) if found else 0


def words(call: Call) -> list[str]:
    """The answer in the parts in which it is streamed."""
    first, *others = answer(number_of(call)).split(" ")
    return [first, *(f" {word}" for word in others)]


def usage(call: Call) -> Document:
    """What the answer took, counted as a provider does."""
    if "input" in call.json:
        return {"prompt_tokens": PROMPT_TOKENS, "total_tokens": PROMPT_TOKENS}
    count = len(words(call))
    return {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": count, "total_tokens": PROMPT_TOKENS + count}


def part(call: Call, text: str | None = None, finish: str | None = None) -> Document:
    """A chunk with a part of the answer, or with none."""
    if "messages" not in call.json:
        choice: Document = {"index": 0, "text": text or "", "logprobs": None, "finish_reason": finish}
        return {**IDENTITY, "object": "text_completion", "choices": [choice]}
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish}
    return {**IDENTITY, "object": "chat.completion.chunk", "choices": [choice]}


def opening(call: Call) -> Document:
    """The chunk that says who speaks, and nothing yet."""
    chunk = part(call, "")
    if "messages" in call.json:
        chunk["choices"][0]["delta"]["role"] = "assistant"
    return chunk


def parts(call: Call) -> list[Document]:
    """All chunks of the answer, without its end."""
    return [opening(call), *(part(call, word) for word in words(call))]


def end(call: Call, finish: str | None = "stop") -> list[Document]:
    """The chunks that end it."""
    return [part(call, None, finish), {**part(call), "choices": [], "usage": usage(call)}]


def whole(call: Call, finish: str | None = "stop") -> Document:
    """The answer in one document."""
    body = call.json
    if "input" in body:
        entry: Document = {"object": "embedding", "index": 0, "embedding": vector(number_of(call))}
        return {"object": "list", "model": "engine-1", "data": [entry], "usage": usage(call)}
    said = answer(number_of(call))
    held: Document = {"message": {"role": "assistant", "content": said}} if "messages" in body else {"text": said}
    choice = {"index": 0, **held, "logprobs": None, "finish_reason": finish}
    kind = "chat.completion" if "messages" in body else "text_completion"
    return {**IDENTITY, "object": kind, "choices": [choice], "usage": usage(call)}


def events(*documents: Document) -> bytes:
    """Documents as server-sent events."""
    return b"".join(map(event, documents))


def streams(call: Call) -> bool:
    """Whether a stream is asked for."""
    return call.json.get("stream") is True


async def answer_well(call: Call) -> None:
    """A provider with nothing wrong."""
    if call.method == "GET":
        call.answer({"object": "list", "data": [{"id": "engine-1", "object": "model"}]})
    elif streams(call):
        call.begin()
        for chunk in parts(call):
            call.event(chunk)
        call.piece(events(*end(call)) + DONE)
        call.finish()
    else:
        call.answer(whole(call))
