"""What callers say in OpenAI's words, and what Bedrock is told for it."""

from __future__ import annotations

import json
from typing import Any

from tests.wire.anthropic_requests import BOTH, FORM, PNG, SCHEMA, TALK, WEATHER, WEATHER_ALONE

Body = dict[str, Any]

CLAUDE, NEWER = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic.claude-opus-4-8-v1"
FABLE, OLD = "anthropic.claude-fable-5-1", "anthropic.claude-3-5-haiku-20241022-v1:0"
NOVA, OSS, LLAMA = "amazon.nova-lite-v1:0", "openai.gpt-oss-120b-1:0", "meta.llama3-70b-instruct-v1:0"
HELLO = {"role": "user", "content": [{"text": "Hello"}]}
SPECS: list[Body] = [
    {"toolSpec": {"name": "weather", "description": "What it is.", "inputSchema": {"json": SCHEMA}}},
    {"toolSpec": {"name": "time", "inputSchema": {"json": {"type": "object", "properties": {}}}}},
]
TOOLS = {"toolConfig": {"tools": SPECS}}


def bare(name: str) -> Body:
    """The declaration of a tool of which only the name is known."""
    return {"toolSpec": {"name": name, "inputSchema": {"json": {"type": "object", "properties": {}}}}}


def extra(**fields: Any) -> Body:
    """Fields that only the model knows."""
    return {"additionalModelRequestFields": fields}


def _fetched(part: Any) -> bool:
    return isinstance(part, dict) and str(part.get("image_url", {}).get("url")).startswith("https://")


# What is said to Anthropic's own API, but for the image at an address: Bedrock fetches none.
SAID: Body = {
    "messages": [
        {
            **message,
            "content": [part for part in content if not _fetched(part)] if isinstance(content, list) else content,
        }
        for message in TALK["messages"]
        for content in (message["content"],)
    ]
}
TOLD: Body = {
    "messages": [
        {
            "role": "user",
            "content": [
                {"text": "What is this?"},
                {"image": {"format": "png", "source": {"bytes": PNG}}},
                {"document": {"name": "document-1", "format": "pdf", "source": {"bytes": "JVBERg=="}}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "c2ln"}}},
                {"reasoningContent": {"redactedContent": "WkdGMFlRPT0="}},
                {"text": "Let me see."},
                {"toolUse": {"toolUseId": "call_1_a", "name": "weather", "input": {"city": "Oslo"}}},
                {"toolUse": {"toolUseId": "call_2", "name": "time", "input": {}}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"toolResult": {"toolUseId": "call_1_a", "content": [{"text": "4 °C"}]}},
                {"toolResult": {"toolUseId": "call_2", "content": [{"text": "noon"}]}},
                {"text": "And now?"},
            ],
        },
        {"role": "assistant", "content": [{"text": "It is"}]},
    ],
    "system": [{"text": "Be brief."}, {"text": "Be kind."}, {"cachePoint": {"type": "default"}}],
    "toolConfig": {"tools": [bare("weather"), bare("time")]},
}
STRICT = {"type": "function", "function": {**WEATHER["function"], "strict": True}}
MARKED: Body = {
    "messages": [
        {
            "role": "user",
            "content": [{"type": "text", "text": "Hello", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        }
    ],
    "tools": [{**WEATHER, "cache_control": {"type": "ephemeral"}}],
}


def formed(schema: Body) -> Body:
    """The form of an answer by a schema."""
    text = json.dumps(schema, separators=(",", ":"))
    structure = {"jsonSchema": {"schema": text, "name": "place"}}
    return {"outputConfig": {"textFormat": {"type": "json_schema", "structure": structure}}}


def infer(**config: Any) -> Body:
    """What Converse bounds for every model."""
    return {"inferenceConfig": config}


CLOSED = formed({**SCHEMA, "title": "Place", "additionalProperties": False})
ADAPTIVE = {"type": "adaptive", "display": "summarized"}

# The model, what a caller says, what Bedrock is told (beside the messages), what is dropped.
REQUESTS: dict[str, tuple[str, Body, Body, str]] = {
    "a conversation": (CLAUDE, SAID, TOLD, ""),
    "no bound": (CLAUDE, {}, {}, ""),
    "max_tokens": (CLAUDE, {"max_tokens": 7}, infer(maxTokens=7), ""),
    "max_completion_tokens": (NOVA, {"max_tokens": 7, "max_completion_tokens": 9}, infer(maxTokens=9), ""),
    "tools": (CLAUDE, {**BOTH, "tool_choice": "auto", "parallel_tool_calls": True}, TOOLS, ""),
    "any tool": (
        CLAUDE,
        {**BOTH, "tool_choice": "required"},
        {"toolConfig": {"tools": SPECS, "toolChoice": {"any": {}}}},
        "",
    ),
    "no tool": (CLAUDE, {**BOTH, "tool_choice": "none"}, {}, ""),
    "one tool": (
        NOVA,
        {**BOTH, "tool_choice": WEATHER_ALONE},
        {"toolConfig": {"tools": SPECS, "toolChoice": {"tool": {"name": "weather"}}}},
        "",
    ),
    "one at a time": (CLAUDE, {**BOTH, "parallel_tool_calls": False}, TOOLS, "parallel_tool_calls"),
    "a model that cannot be made to use a tool": (FABLE, {**BOTH, "tool_choice": "required"}, TOOLS, "tool_choice"),
    "a choice that Bedrock does not have": (
        CLAUDE,
        {**BOTH, "tool_choice": {"type": "allowed_tools", "allowed_tools": {}}},
        TOOLS,
        "tool_choice",
    ),
    "a strict tool": (
        CLAUDE,
        {"tools": [STRICT]},
        {"toolConfig": {"tools": [{"toolSpec": {**SPECS[0]["toolSpec"], "strict": True}}]}},
        "",
    ),
    "a strict tool of a model that knows no such": (
        LLAMA,
        {"tools": [STRICT]},
        {"toolConfig": {"tools": SPECS[:1]}},
        "",
    ),
    "marks of what is to be cached": (
        CLAUDE,
        MARKED,
        {
            "messages": [
                {"role": "user", "content": [{"text": "Hello"}, {"cachePoint": {"type": "default", "ttl": "1h"}}]}
            ],
            "toolConfig": {"tools": [SPECS[0], {"cachePoint": {"type": "default"}}]},
        },
        "",
    ),
    "sampling": (
        CLAUDE,
        {"temperature": 1.7, "top_k": 5, "stop": ["END", " "]},
        {**infer(temperature=1, stopSequences=["END"]), **extra(top_k=5)},
        "stop",
    ),
    "one of two": (CLAUDE, {"temperature": 0.2, "top_p": 0.9}, infer(temperature=0.2), "top_p"),
    "both, once": (OLD, {"temperature": 0.2, "top_p": 0.9}, infer(temperature=0.2, topP=0.9), ""),
    "sampling for a model that takes none": (NEWER, {"temperature": 0.2, "top_p": 1}, {}, "temperature"),
    "sampling for another's model": (
        LLAMA,
        {"temperature": 1.2, "top_p": 0.9, "top_k": 5},
        infer(temperature=1, topP=0.9),
        "top_k",
    ),
    "sampling for Nova": (
        NOVA,
        {"temperature": 0.5, "top_k": 5},
        {**infer(temperature=0.5), **extra(inferenceConfig={"topK": 5})},
        "",
    ),
    "effort": (
        NEWER,
        {"reasoning_effort": "xhigh"},
        extra(thinking=ADAPTIVE, output_config={"effort": "xhigh"}),
        "",
    ),
    "effort as a budget": (
        CLAUDE,
        {"reasoning_effort": "high", "temperature": 0.3},
        {**infer(maxTokens=64_000), **extra(thinking={"type": "enabled", "budget_tokens": 16_384})},
        "temperature",
    ),
    "effort within a short answer": (
        CLAUDE,
        {"reasoning_effort": "high", "max_tokens": 3000},
        {**infer(maxTokens=3000), **extra(thinking={"type": "enabled", "budget_tokens": 1500})},
        "",
    ),
    "effort against a forced tool": (
        CLAUDE,
        {**BOTH, "tool_choice": "required", "reasoning_effort": "low"},
        {"toolConfig": {"tools": SPECS, "toolChoice": {"any": {}}}},
        "reasoning_effort",
    ),
    "effort of OpenAI's open models": (OSS, {"reasoning_effort": "low"}, extra(reasoning_effort="low"), ""),
    "effort that they do not know": (OSS, {"reasoning_effort": "none"}, {}, "reasoning_effort"),
    "effort of a model that does not think": (LLAMA, {"reasoning_effort": "low"}, {}, "reasoning_effort"),
    "Claude's own field": (
        CLAUDE,
        {"thinking": {"type": "enabled", "budget_tokens": 2000}},
        {**infer(maxTokens=64_000), **extra(thinking={"type": "enabled", "budget_tokens": 2000})},
        "",
    ),
    "Claude's own field to another": (LLAMA, {"thinking": {"type": "enabled"}}, {}, "thinking"),
    "Bedrock's own fields": (
        NOVA,
        {
            "additionalModelRequestFields": {"inferenceConfig": {"topK": 7}},
            "guardrailConfig": {"guardrailIdentifier": "abc", "guardrailVersion": "1"},
            "performanceConfig": {"latency": "optimized"},
            "requestMetadata": {"team": "blue"},
            "top_k": 5,
        },
        {
            **extra(inferenceConfig={"topK": 7}),
            "guardrailConfig": {"guardrailIdentifier": "abc", "guardrailVersion": "1"},
            "performanceConfig": {"latency": "optimized"},
            "requestMetadata": {"team": "blue"},
        },
        "",
    ),
    "a schema": (CLAUDE, {"response_format": FORM}, CLOSED, ""),
    "a schema for another's model": (LLAMA, {"response_format": FORM}, CLOSED, ""),
    "a schema for a model without": (OLD, {"response_format": FORM}, {}, "response_format"),
    "any JSON": (CLAUDE, {"response_format": {"type": "json_object"}}, {}, "response_format"),
    "a tier": (CLAUDE, {"service_tier": "flex"}, {"serviceTier": {"type": "flex"}}, ""),
    "any tier": (CLAUDE, {"service_tier": "auto"}, {}, ""),
    "a tier that there is not": (CLAUDE, {"service_tier": "scale"}, {}, "service_tier"),
    "what there is not": (
        CLAUDE,
        {"n": 3, "seed": 7, "logprobs": True, "user": "u-1", "x_vendor": 1},
        {},
        "n,seed,logprobs,user,x_vendor",
    ),
    "what asks for nothing": (CLAUDE, {"n": 1, "seed": None, "logprobs": False, "presence_penalty": 0}, {}, ""),
}
