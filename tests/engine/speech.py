"""What tests say to the tiny model, and what it is known to answer (its skills: gpu_workers/cpu/tiny_model.py)."""

from __future__ import annotations

from typing import Any

from openai.types.chat import ChatCompletionUserMessageParam

CHAT, EMBED = "tiny-chat", "tiny-embed"
HELLO, GREETING = "hello", "Hello! I am a tiny test model."
COUNT, COUNTED = "count to 20", " ".join(str(number) for number in range(1, 21))
SONG = "sing"
CONTEXT_TOKENS = 1024


def say(text: str) -> list[ChatCompletionUserMessageParam]:
    """A conversation of this one message."""
    return [{"role": "user", "content": text}]


def song(tokens: int = 900, **fields: Any) -> dict[str, Any]:
    """A request whose answer lasts: so many tokens of song, at about a hundred a second."""
    return {"model": CHAT, "temperature": 0, "max_tokens": tokens, "messages": say(SONG), **fields}
