"""What vendors' lists say of a model, each in words of its own, means the same here."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.providers._listing import described, engine_abilities

OPENROUTER = {
    "id": "x/y",
    "context_length": 131072,
    "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]},
    "supported_parameters": ["tools", "tool_choice", "reasoning"],
    "top_provider": {"context_length": 131072, "max_completion_tokens": 8192},
}
MISTRAL = {
    "max_context_length": 32768,
    "capabilities": {"completion_chat": True, "completion_fim": False, "function_calling": True, "vision": False},
}
ENTRIES: dict[str, tuple[dict[str, Any], int | None, int | None, tuple[str, ...]]] = {
    "openai": ({"id": "gpt-4", "owned_by": "openai"}, None, None, ()),
    "sglang, vllm": ({"id": "tiny", "max_model_len": 1024}, 1024, None, ()),
    "groq": ({"context_window": 131072, "max_completion_tokens": 32768}, 131072, 32768, ()),
    "together": ({"context_length": 8192, "type": "embedding"}, 8192, None, ("embeddings",)),
    "openrouter": (OPENROUTER, 131072, 8192, ("chat", "completions", "tools", "vision", "reasoning")),
    "mistral": (MISTRAL, 32768, None, ("chat", "tools")),
    "penstock": ({"context_window": 8192, "capabilities": ["chat", "tools"]}, 8192, None, ("chat", "tools")),
    "nonsense": ({"context_window": "big", "max_model_len": -1, "capabilities": 7, "architecture": []}, None, None, ()),
    "more nonsense": (
        {"context_length": True, "architecture": {"input_modalities": 1}, "top_provider": 3},
        None,
        None,
        (),
    ),
}


@pytest.mark.parametrize("vendor", ENTRIES)
def test_an_entry_tells_windows_and_capabilities(vendor: str) -> None:
    entry, window, longest, able = ENTRIES[vendor]
    assert described(entry) == (window, longest, able)


@pytest.mark.parametrize(
    ("about", "able"),
    [
        ({"is_generation": True}, ("chat", "completions")),
        ({"is_generation": False, "tool_call_parser": "x"}, ("embeddings",)),
        (
            {
                "is_generation": True,
                "has_image_understanding": True,
                "reasoning_parser": "qwen3",
                "tool_call_parser": "q",
            },
            ("chat", "completions", "tools", "vision", "reasoning"),
        ),
    ],
)
def test_sglang_tells_what_its_one_model_can_do(about: dict[str, Any], able: tuple[str, ...]) -> None:
    assert engine_abilities(about) == able
