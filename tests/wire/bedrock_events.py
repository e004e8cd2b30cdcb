"""What Bedrock says: the events of a stream, and the same as a whole answer."""

from __future__ import annotations

import base64
from typing import Any

from tests.wire.amazon import framed
from tests.wire.bedrock_requests import Body

Events = list[tuple[str, Body]]


def start(index: int, **block: Any) -> tuple[str, Body]:
    return "contentBlockStart", {"contentBlockIndex": index, "start": block}


def delta(index: int, **said: Any) -> tuple[str, Body]:
    return "contentBlockDelta", {"contentBlockIndex": index, "delta": said}


def stop(index: int) -> tuple[str, Body]:
    return "contentBlockStop", {"contentBlockIndex": index}


def ends(reason: str) -> tuple[str, Body]:
    return "messageStop", {"stopReason": reason}


def metadata(**usage: int) -> tuple[str, Body]:
    counted = {"inputTokens": 5, "outputTokens": 2, "totalTokens": 7, **usage}
    return "metadata", {"usage": counted, "metrics": {"latencyMs": 328}}


BEGIN = ("messageStart", {"role": "assistant"})
HIDDEN = [base64.b64encode(part).decode() for part in (b"ErQC", b"CkY=")]
STREAM: Events = [
    BEGIN,
    delta(0, text=""),
    stop(0),
    delta(1, reasoningContent={"text": "Is it "}),
    delta(1, reasoningContent={"text": "cold? 🤔"}),
    delta(1, reasoningContent={"signature": "c2ln"}),
    stop(1),
    delta(2, reasoningContent={"redactedContent": HIDDEN[0]}),
    delta(2, reasoningContent={"redactedContent": HIDDEN[1]}),
    stop(2),
    delta(3, text="Grüße, "),
    delta(3, text="世界!"),
    delta(3, citation={"title": "A page"}),
    stop(3),
    ("anEventOfTomorrow", {"anything": [1]}),
    start(4, toolUse={"toolUseId": "srv_1", "name": "nova_code_interpreter", "type": "server_tool_use"}),
    delta(4, toolUse={"input": '{"snippet": "1"}'}),
    stop(4),
    start(5, toolResult={"toolUseId": "srv_1", "type": "nova_code_interpreter_result"}),
    delta(5, toolResult=[{"json": {"stdOut": "1"}}]),
    stop(5),
    start(6, toolUse={"toolUseId": "tooluse_1", "name": "weather"}),
    delta(6, toolUse={"input": ""}),
    delta(6, toolUse={"input": '{"city":'}),
    delta(6, toolUse={"input": ' "Oslo"}'}),
    stop(6),
    start(7, toolUse={"toolUseId": "tooluse_2", "name": "time"}),
    stop(7),
    ends("tool_use"),
    metadata(outputTokens=17, cacheReadInputTokens=20, cacheWriteInputTokens=3, totalTokens=45),
]
BYTES = framed(STREAM)
PLAIN: Body = {
    "output": {
        "message": {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "Is it cold? 🤔", "signature": "c2ln"}}},
                {"reasoningContent": {"redactedContent": base64.b64encode(b"ErQCCkY=").decode()}},
                {"citationsContent": {"content": [{"text": "Grüße, "}], "citations": [{"title": "A page"}]}},
                {"text": "世界!"},
                {"toolUse": {"toolUseId": "srv_1", "name": "x", "input": {"a": 1}, "type": "server_tool_use"}},
                {"toolResult": {"toolUseId": "srv_1", "content": [{"json": {"stdOut": "1"}}], "type": "x"}},
                {"toolUse": {"toolUseId": "tooluse_1", "name": "weather", "input": {"city": "Oslo"}}},
                {"toolUse": {"toolUseId": "tooluse_2", "name": "time", "input": {}}},
            ],
        }
    },
    "stopReason": "tool_use",
    "usage": STREAM[-1][1]["usage"],
    "metrics": {"latencyMs": 328},
}
USAGE = {
    "prompt_tokens": 28,
    "completion_tokens": 17,
    "total_tokens": 45,
    "prompt_tokens_details": {"cached_tokens": 20, "cache_creation_tokens": 3},
}
FOLDED = {
    "role": "assistant",
    "content": "Grüße, 世界!",
    "reasoning_content": "Is it cold? 🤔",
    "thinking_blocks": [
        {"index": 0, "type": "thinking", "thinking": "Is it cold? 🤔", "signature": "c2ln"},
        {"index": 1, "type": "redacted_thinking", "data": "ErQCCkY="},
    ],
    "tool_calls": [
        {"type": "function", "id": "tooluse_1", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
        {"type": "function", "id": "tooluse_2", "function": {"name": "time", "arguments": "{}"}},
    ],
}


BRIEF: Events = [BEGIN, delta(0, text="Hi"), delta(0, text="!"), stop(0), ends("end_turn"), metadata()]
