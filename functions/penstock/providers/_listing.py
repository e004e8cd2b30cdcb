"""What the lists of OpenAI-compatible vendors and engines say of a model, each in words of its own."""

from __future__ import annotations

from typing import Any

_WINDOWS = ("context_window", "max_model_len", "context_length", "max_context_length")
"""Groq and Penstock; SGLang and vLLM; OpenRouter and Together; Mistral."""
_LONGEST = ("max_completion_tokens", "max_tokens")
_KINDS = {
    "chat": ("chat",),
    "language": ("completions",),
    "code": ("completions",),
    "embedding": ("embeddings",),
    "embeddings": ("embeddings",),
    "image": ("images",),
}
"""Together's."""
_FLAGS = {
    "completion_chat": "chat",
    "completion_fim": "completions",
    "function_calling": "tools",
    "vision": "vision",
    "reasoning": "reasoning",
}
"""Mistral's."""


def described(entry: dict[str, Any]) -> tuple[int | None, int | None, tuple[str, ...]]:
    """What an entry of a list of models tells: the model's context, its longest answer, what it can do."""
    top = entry.get("top_provider")
    nested = top if isinstance(top, dict) else {}
    longest = _count(entry, _LONGEST) or _count(nested, _LONGEST)
    return _count(entry, _WINDOWS), longest, tuple(_capabilities(entry))


def engine_abilities(about: dict[str, Any]) -> tuple[str, ...]:
    """What SGLang's ``/model_info`` says that its one model can do."""
    if about.get("is_generation") is False:
        return ("embeddings",)
    able = ["chat", "completions"]
    if about.get("tool_call_parser"):
        able.append("tools")
    if about.get("has_image_understanding"):
        able.append("vision")
    if about.get("reasoning_parser"):
        able.append("reasoning")
    return tuple(able)


def _count(entry: dict[str, Any], names: tuple[str, ...]) -> int | None:
    return next((value for name in names if type(value := entry.get(name)) is int and value > 0), None)


def _capabilities(entry: dict[str, Any]) -> list[str]:
    told = entry.get("capabilities")
    if isinstance(told, list):  # another Penstock's
        return [word for word in told if isinstance(word, str)]
    if isinstance(told, dict):
        return [word for flag, word in _FLAGS.items() if told.get(flag) is True]
    shape = entry.get("architecture")
    if isinstance(shape, dict):
        return _openrouters(shape, entry.get("supported_parameters"))
    return list(_KINDS.get(str(entry.get("type")), ()))


def _openrouters(shape: dict[str, Any], parameters: Any) -> list[str]:
    able = []
    takes, gives, knows = (
        value if isinstance(value, list) else []
        for value in (shape.get("input_modalities"), shape.get("output_modalities"), parameters)
    )
    if "text" in gives:
        able += ["chat", "completions"]
    if "embeddings" in gives:
        able.append("embeddings")
    if "image" in gives:
        able.append("images")
    if "tools" in knows:
        able.append("tools")
    if "image" in takes:
        able.append("vision")
    if "reasoning" in knows:
        able.append("reasoning")
    return able
