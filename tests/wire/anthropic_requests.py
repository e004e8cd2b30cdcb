"""What callers say in OpenAI's words, and what Anthropic is told for it."""

from __future__ import annotations

from typing import Any

Body = dict[str, Any]

SONNET, OPUS, FABLE, OLD = "claude-sonnet-4-5", "claude-opus-4-8", "claude-fable-5-1", "claude-3-5-haiku-20241022"
HELLO = {"role": "user", "content": [{"type": "text", "text": "Hello"}]}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "What it is.", "parameters": SCHEMA}}
TIME = {"type": "function", "function": {"name": "time"}}
TOOLS = [
    {"name": "weather", "description": "What it is.", "input_schema": SCHEMA},
    {"name": "time", "input_schema": {"type": "object", "properties": {}}},
]

PNG = "iVBORw0KGgo="
CALLS = [
    {"id": "call.1:a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
    {"id": "call_2", "type": "function", "function": {"name": "time", "arguments": ""}},
]
TALK: Body = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "developer",
            "content": [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
        },
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.jpg"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}},
                {"type": "text", "text": ""},
            ],
        },
        {
            "role": "assistant",
            "content": "Let me see.",
            "reasoning_content": "Hm.",
            "thinking_blocks": [
                {"index": 0, "type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
                {"index": 1, "type": "redacted_thinking", "data": "ZGF0YQ=="},
                {"index": 2, "type": "thinking", "thinking": "unsigned", "signature": ""},
            ],
            "tool_calls": CALLS,
        },
        {"role": "tool", "tool_call_id": "call.1:a", "content": "4 °C"},
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "noon"}]},
        {"role": "user", "content": "And now?"},
        {"role": "assistant", "content": "It is  "},
    ]
}
TOLD: Body = {
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                {"type": "image", "source": {"type": "url", "url": "https://example.com/a.jpg"}},
                {
                    "type": "document",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="},
                    "title": "a.pdf",
                },
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
                {"type": "redacted_thinking", "data": "ZGF0YQ=="},
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "call_1_a", "name": "weather", "input": {"city": "Oslo"}},
                {"type": "tool_use", "id": "call_2", "name": "time", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_1_a", "content": [{"type": "text", "text": "4 °C"}]},
                {"type": "tool_result", "tool_use_id": "call_2", "content": [{"type": "text", "text": "noon"}]},
                {"type": "text", "text": "And now?"},
            ],
        },
        {"role": "assistant", "content": [{"type": "text", "text": "It is"}]},
    ],
    "system": [
        {"type": "text", "text": "Be brief."},
        {"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}},
    ],
}
FORM = {"type": "json_schema", "json_schema": {"name": "place", "strict": True, "schema": {**SCHEMA, "title": "Place"}}}
CLOSED = {"type": "json_schema", "schema": {**SCHEMA, "title": "Place", "additionalProperties": False}}
ADAPTIVE = {"type": "adaptive", "display": "summarized"}
BOTH = {"tools": [WEATHER, TIME]}
WEATHER_ALONE = {"type": "function", "function": {"name": "weather"}}

# The model, what a caller says, what Anthropic is told (beside model, messages and 64000 max_tokens), what is dropped.
REQUESTS: dict[str, tuple[str, Body, Body, str]] = {
    "a conversation": (SONNET, TALK, TOLD, ""),
    "max_tokens": (SONNET, {"max_tokens": 7}, {"max_tokens": 7}, ""),
    "max_completion_tokens": (SONNET, {"max_tokens": 7, "max_completion_tokens": 9}, {"max_tokens": 9}, ""),
    "the most of an old model": (OLD, {}, {"max_tokens": 8192}, ""),
    "the most of a newer model": (OPUS, {}, {"max_tokens": 128_000}, ""),
    "tools": (SONNET, {**BOTH, "tool_choice": "auto", "parallel_tool_calls": True}, {"tools": TOOLS}, ""),
    "any tool": (SONNET, {**BOTH, "tool_choice": "required"}, {"tools": TOOLS, "tool_choice": {"type": "any"}}, ""),
    "no tool": (
        SONNET,
        {**BOTH, "tool_choice": "none", "parallel_tool_calls": False},
        {"tools": TOOLS, "tool_choice": {"type": "none"}},
        "",
    ),
    "one tool, once": (
        SONNET,
        {**BOTH, "tool_choice": WEATHER_ALONE, "parallel_tool_calls": False},
        {"tools": TOOLS, "tool_choice": {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}},
        "",
    ),
    "one at a time": (
        SONNET,
        {**BOTH, "parallel_tool_calls": False},
        {"tools": TOOLS, "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
        "",
    ),
    "a model that cannot be made to use a tool": (
        FABLE,
        {**BOTH, "tool_choice": "required"},
        {"max_tokens": 128_000, "tools": TOOLS},
        "tool_choice",
    ),
    "a choice that Anthropic does not have": (
        SONNET,
        {**BOTH, "tool_choice": {"type": "allowed_tools", "allowed_tools": {}}},
        {"tools": TOOLS},
        "tool_choice",
    ),
    "a tool of Anthropic's own": (
        SONNET,
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        "",
    ),
    "sampling": (
        SONNET,
        {"temperature": 1.7, "top_k": 5, "stop": "END"},
        {"temperature": 1, "top_k": 5, "stop_sequences": ["END"]},
        "",
    ),
    "one of two": (SONNET, {"temperature": 0.2, "top_p": 0.9}, {"temperature": 0.2}, "top_p"),
    "both, once": (OLD, {"temperature": 0.2, "top_p": 0.9}, {"max_tokens": 8192, "temperature": 0.2, "top_p": 0.9}, ""),
    "sampling for a model that takes none": (
        OPUS,
        {"temperature": 0.2, "top_p": 1},
        {"max_tokens": 128_000},
        "temperature",
    ),
    "effort": (
        OPUS,
        {"reasoning_effort": "xhigh"},
        {"max_tokens": 128_000, "thinking": ADAPTIVE, "output_config": {"effort": "xhigh"}},
        "",
    ),
    "effort as a budget": (
        SONNET,
        {"reasoning_effort": "high", "temperature": 0.3},
        {"thinking": {"type": "enabled", "budget_tokens": 16_384}},
        "temperature",
    ),
    "effort within a short answer": (
        SONNET,
        {"reasoning_effort": "high", "max_tokens": 3000},
        {"max_tokens": 3000, "thinking": {"type": "enabled", "budget_tokens": 1500}},
        "",
    ),
    "effort without room": (
        SONNET,
        {"reasoning_effort": "low", "max_tokens": 9},
        {"max_tokens": 9},
        "reasoning_effort",
    ),
    "effort against a forced tool": (
        SONNET,
        {**BOTH, "tool_choice": "required", "reasoning_effort": "low"},
        {"tools": TOOLS, "tool_choice": {"type": "any"}},
        "reasoning_effort",
    ),
    "effort of a model that does not think": (
        OLD,
        {"reasoning_effort": "low"},
        {"max_tokens": 8192},
        "reasoning_effort",
    ),
    "no effort": (SONNET, {"reasoning_effort": "none"}, {}, ""),
    "no effort of a model that thinks by itself": (
        "claude-sonnet-5",
        {"reasoning_effort": "none"},
        {"max_tokens": 128_000, "thinking": {"type": "disabled"}},
        "",
    ),
    "no effort of a model that always thinks": (
        FABLE,
        {"reasoning_effort": "none"},
        {"max_tokens": 128_000},
        "reasoning_effort",
    ),
    "the vendor's own field": (
        SONNET,
        {"thinking": {"type": "enabled", "budget_tokens": 2000}},
        {"thinking": {"type": "enabled", "budget_tokens": 2000}},
        "",
    ),
    "a schema": (SONNET, {"response_format": FORM}, {"output_config": {"format": CLOSED}}, ""),
    "a schema for a model without": (OLD, {"response_format": FORM}, {"max_tokens": 8192}, "response_format"),
    "any JSON": (SONNET, {"response_format": {"type": "json_object"}}, {}, "response_format"),
    "a user": (
        SONNET,
        {"user": "u-1", "service_tier": "default"},
        {"metadata": {"user_id": "u-1"}, "service_tier": "standard_only"},
        "",
    ),
    "what there is not": (SONNET, {"n": 3, "seed": 7, "logprobs": True, "x_vendor": 1}, {}, "n,seed,logprobs,x_vendor"),
    "what asks for nothing": (SONNET, {"n": 1, "seed": None, "logprobs": False, "presence_penalty": 0}, {}, ""),
}
