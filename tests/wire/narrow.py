"""A model with a real limit: it refuses what is longer than its window, answers from what it has read, and sums up.

It knows what it reads and nothing else: a question ``What is the code of NAME?`` is answered by the last sentence ``The
code of NAME is …`` that stands anywhere in its prompt. Asked to sum a conversation up it repeats every such sentence.
"""

from __future__ import annotations

import re
from typing import Any

from tests.wire.upstream import Call, Script, chunk, completion, usage_chunk

FACT = re.compile(r"The code of (\w+) is (\w+)\.")
QUESTION = re.compile(r"What is the code of (\w+)\?")
UNKNOWN = "I do not know."


def tokens(messages: list[dict[str, Any]]) -> int:
    """What it counts: three characters are a token, and a message has five more."""
    return sum(5 + len(_text(message)) // 3 + len(str(message.get("tool_calls") or "")) // 3 for message in messages)


def _text(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


def answer(messages: list[dict[str, Any]]) -> str:
    """What it says to a conversation."""
    text = "\n".join(map(_text, messages))
    facts = dict(FACT.findall(text))
    if "<conversation>" in text:
        return " ".join(f"The code of {name} is {code}." for name, code in facts.items()) or "Nothing was said."
    asked = [found for message in messages if message["role"] == "user" for found in QUESTION.findall(_text(message))]
    return facts.get(asked[-1], UNKNOWN) if asked else "Noted."


def refusal(prompt: int, window: int) -> dict[str, Any]:
    """SGLang's words for a prompt that is too long."""
    words = f"The input ({prompt} tokens) is longer than the model's context length ({window} tokens)."
    return {"object": "error", "message": words, "type": "BadRequestError", "param": None, "code": 400}


def narrow(window: int, words: Any = refusal) -> Script:
    """A script that answers as this model does."""

    async def script(call: Call) -> None:
        body = call.json
        prompt = tokens(body["messages"])
        bound = body.get("max_completion_tokens") or body.get("max_tokens") or 0
        if prompt + bound > window:
            call.answer(words(prompt, window), 400)
            return
        said = answer(body["messages"])
        said = said[: bound * 3] if bound else said
        count = len(said) // 3 + 1
        if body.get("stream"):
            call.stream(chunk(said), chunk(finish="stop"), usage_chunk(prompt, count))
        else:
            usage = {"prompt_tokens": prompt, "completion_tokens": count, "total_tokens": prompt + count}
            call.answer(completion(said, usage=usage))

    return script


ASKED = "What is the code of n0?"


def conversation(turns: int, question: str = ASKED, chat: str = "so they say ") -> list[dict[str, Any]]:
    """A long conversation in which many codes are told, and at last one of them is asked for."""
    found: list[dict[str, Any]] = [{"role": "system", "content": "You keep codes."}]
    for number in range(turns):
        found.append({"role": "user", "content": f"The code of n{number} is c{number}. {chat * 20}"})
        found.append({"role": "assistant", "content": f"Noted. {chat * 5}"})
    return [*found, {"role": "user", "content": question}]
