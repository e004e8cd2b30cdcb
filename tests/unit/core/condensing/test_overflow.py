"""Refusals of length in the words of engines and vendors, and the numbers in them."""

from __future__ import annotations

import pytest

from penstock.core.condensing.overflow import Overflow, is_overflow, overflow_of
from penstock.core.json import to_json
from penstock.errors import UpstreamRefused
from penstock.providers._faults import fault
from penstock.providers._profiles import PROFILES
from penstock.schema.model import Deployment

PLACE = Deployment("p/m", "m", "p", "openai", "m", "http://127.0.0.1/v1")

WORDS = {
    "OpenAI": (
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens. Please"
        " reduce the length of the messages.",
        Overflow(8192, 9001),
    ),
    "OpenAI with an answer": (
        "This model's maximum context length is 8192 tokens. However, you requested 9100 tokens (8600 in the messages,"
        " 500 in the completion).",
        Overflow(8192, 8600),
    ),
    "OpenAI now": ("Your input exceeds the context window of this model. Please adjust your input.", Overflow()),
    "Anthropic": ("prompt is too long: 209,000 tokens > 200,000 maximum", Overflow(200_000, 209_000)),
    "Anthropic with an answer": (
        "input length and `max_tokens` exceed context limit: 190000 + 32000 > 200000, decrease input length",
        Overflow(200_000, 190_000),
    ),
    "vLLM": (
        "You passed 5001 input tokens and requested 100 output tokens. However, the model's context length is only 4096"
        " tokens",
        Overflow(4096, 5001),
    ),
    "vLLM before": (
        "The decoder prompt (length 5000) is longer than the maximum model length of 4096. Make sure that max_model_len"
        " is no smaller than the number of text tokens.",
        Overflow(4096, 5000),
    ),
    "SGLang": (
        "The input (600 tokens) is longer than the model's context length (512 tokens).",
        Overflow(512, 600),
    ),
    "SGLang with an answer": (
        "Requested token count exceeds the model's maximum context length of 1024 tokens. You requested a total of 1100"
        " tokens: 1000 tokens from the input messages and 100 tokens for the completion.",
        Overflow(1024, 1000),
    ),
    "llama.cpp": ("the request exceeds the available context size (4096 tokens)", Overflow(4096)),
    "Ollama": ("the input length exceeds the context length", Overflow()),
    "Bedrock": ("Input is too long for requested model.", Overflow()),
    "Gemini": (
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        Overflow(1_048_576, 1_200_000),
    ),
    "Mistral": (
        "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
        Overflow(32_768, 40_000),
    ),
    "xAI": (
        "This model's maximum prompt length is 131072 but the request contains 200000 tokens.",
        Overflow(131_072, 200_000),
    ),
}


@pytest.mark.parametrize(("message", "told"), WORDS.values(), ids=WORDS.keys())
def test_a_refusal_of_length_is_known_and_read(message: str, told: Overflow) -> None:
    error = fault(400, {}, to_json({"error": {"message": message}}), PLACE, PROFILES["openai"])
    assert isinstance(error, UpstreamRefused)
    assert is_overflow(error, ())
    assert overflow_of(error) == told


def test_patterns_are_looked_for_in_code_and_words_in_any_case() -> None:
    by_code = UpstreamRefused("No.", status=400, upstream_code="token_limit_exceeded")
    by_words = UpstreamRefused("Far Too Chatty", status=413)
    assert is_overflow(by_code, ["token_limit_exceeded"])
    assert is_overflow(by_words, ["too chatty"])
    assert not is_overflow(by_words, ["context_length_exceeded"])


def test_other_refusals_are_none_of_length() -> None:
    error = fault(400, {}, to_json({"error": {"message": "temperature: must be at most 2"}}), PLACE, PROFILES["openai"])
    assert isinstance(error, UpstreamRefused)
    assert not is_overflow(error, ["context_length_exceeded"])


@pytest.mark.parametrize("message", ["limit " + "9" * 400, "context length (0 tokens)", "maximum ,,,", "limit: 5"])
def test_numbers_that_make_no_sense_are_passed_over(message: str) -> None:
    assert overflow_of(UpstreamRefused(message, status=400)) == Overflow()
