"""How many tokens something likely has, where nobody counted them."""

from __future__ import annotations

from typing import Any

from penstock.core.json import to_json
from penstock.core.limits.estimate import BYTES_PER_TOKEN, USUAL_IMAGE

MESSAGE = 4
"""Tokens that a chat template adds to each message."""
MEDIA = ("image_url", "video_url", "audio_url", "input_audio", "file")
BESIDE = ("tools", "functions", "response_format")
"""Fields of a request that are a part of its prompt."""


def size_of_text(text: str) -> int:
    """A token is about four letters of English; of other scripts one."""
    plain = len(text.encode("ascii", "ignore"))
    return plain // BYTES_PER_TOKEN + (len(text) - plain) + bool(text)


def size_of(message: dict[str, Any]) -> int:
    """The tokens of a message."""
    size, content = MESSAGE, message.get("content")
    if isinstance(content, str):
        size += size_of_text(content)
    for part in content if isinstance(content, list) else ():
        medium = next((kind for kind in MEDIA if kind in part), None)
        size += USUAL_IMAGE if medium else size_of_text(str(part.get("text") or ""))
    rest = {name: value for name, value in message.items() if name not in ("role", "content") and value}
    return size + (len(to_json(rest)) // BYTES_PER_TOKEN if rest else 0)


def size_beside(body: dict[str, Any]) -> int:
    """The tokens of what is a part of the prompt and no message."""
    rest = {name: body[name] for name in BESIDE if body.get(name)}
    return len(to_json(rest)) // BYTES_PER_TOKEN if rest else 0
