"""What the official client of OpenAI reads from the gateway is what botocore reads from Bedrock's own bytes."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion

from penstock.providers._anthropic_turns import conversation as anthropics
from penstock.providers._bedrock_turns import conversation
from tests.wire import gateway as gateways
from tests.wire.amazon import FRAMES, framed, parsed, parsed_stream
from tests.wire.bedrock_events import BRIEF, BYTES, PLAIN
from tests.wire.bedrock_requests import Body
from tests.wire.gateway import KEY, PATIENCE
from tests.wire.test_anthropic_replay import streamed, whole
from tests.wire.test_bedrock import ANSWER, provider
from tests.wire.upstream import Upstream, answering

pytestmark = pytest.mark.usefixtures("aws")


def said_by_botocore(blocks: list[Body], reason: str, usage: Body) -> Body:
    """What a reader of botocore's answer learns."""
    texts = [block["text"] for block in blocks if "text" in block]
    thoughts = [block["reasoningContent"] for block in blocks if "reasoningContent" in block]
    calls = [block["toolUse"] for block in blocks if "toolUse" in block and "type" not in block["toolUse"]]
    read, written = usage.get("cacheReadInputTokens", 0), usage.get("cacheWriteInputTokens", 0)
    signed = [
        thought["redactedContent"].decode() if "redactedContent" in thought else thought["reasoningText"]["signature"]
        for thought in thoughts
    ]
    return {
        "text": "".join(texts),
        "thought": "".join(thought["reasoningText"]["text"] for thought in thoughts if "reasoningText" in thought),
        "signed": signed,
        "calls": [(call["toolUseId"], call["name"], call["input"]) for call in calls],
        "end": {"tool_use": "tool_calls", "end_turn": "stop"}[reason],
        "tokens": (usage["inputTokens"] + read + written, read, usage["outputTokens"]),
        "total": usage["totalTokens"],
    }


def gathered(events: list[Body]) -> list[Body]:
    """The blocks of a stream, put together from botocore's events."""
    blocks: dict[int, Body] = {}
    for told in events:
        if begun := told.get("contentBlockStart"):
            blocks[begun["contentBlockIndex"]] = {
                name: {**block, "input": ""} for name, block in begun["start"].items()
            }
        if grown := told.get("contentBlockDelta"):
            _grow(blocks.setdefault(grown["contentBlockIndex"], {}), grown["delta"])
    for block in blocks.values():
        if "toolUse" in block:
            block["toolUse"]["input"] = json.loads(block["toolUse"]["input"] or "{}")
    return [block for _, block in sorted(blocks.items()) if block]


def _grow(block: Body, said: Body) -> None:
    if "text" in said:
        block["text"] = block.get("text", "") + said["text"]
    if "toolUse" in said:
        block["toolUse"]["input"] += said["toolUse"]["input"]
    for name, part in said.get("reasoningContent", {}).items():
        whole = block.setdefault("reasoningContent", {})
        if name == "redactedContent":
            whole[name] = whole.get(name, b"") + part
        else:
            text = whole.setdefault("reasoningText", {"text": "", "signature": ""})
            text[name] += part


def said_by_us(completion: ChatCompletion) -> Body:
    """What a reader of the chat completion learns."""
    (choice,), usage = completion.choices, completion.usage
    message, more = choice.message, choice.message.model_extra or {}
    assert usage
    assert usage.prompt_tokens_details
    return {
        "text": message.content or "",
        "thought": more.get("reasoning_content", ""),
        "signed": [block.get("signature") or block.get("data") for block in more.get("thinking_blocks", ())],
        "calls": [
            (call.id, call.function.name, json.loads(call.function.arguments))
            for call in message.tool_calls or ()
            if call.type == "function"
        ],
        "end": choice.finish_reason,
        "tokens": (usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens, usage.completion_tokens),
        "total": usage.total_tokens,
    }


PLAIN_WITHOUT_CITATIONS = {
    **PLAIN,
    "output": {
        "message": {
            "role": "assistant",
            "content": [block for block in PLAIN["output"]["message"]["content"] if "citationsContent" not in block],
        }
    },
}
ANSWERS: dict[str, tuple[bytes, str]] = {
    "a rich stream": (BYTES, FRAMES),
    "a brief stream": (framed(BRIEF), FRAMES),
    "a rich answer": (json.dumps(PLAIN_WITHOUT_CITATIONS).encode(), "application/json"),
    "a brief answer": (json.dumps(ANSWER).encode(), "application/json"),
}


async def asked(folder: Path, upstream: Upstream, body: bytes, kind: str) -> ChatCompletion:
    """What OpenAI's client reads from a gateway in front of these bytes."""
    upstream.script = answering(body, kind=kind)
    async with (
        gateways.serve(folder, provider(upstream)) as gateway,
        httpx.AsyncClient(timeout=PATIENCE, verify=False) as http,
    ):
        client = openai.AsyncOpenAI(api_key=KEY, base_url=f"{gateway.url}/v1", max_retries=0, http_client=http)
        return await (streamed(client) if kind == FRAMES else whole(client))


@pytest.mark.parametrize("case", ANSWERS)
async def test_openais_client_reads_from_us_what_botocore_reads_from_bedrock(
    tmp_path: Path, upstream: Upstream, case: str
) -> None:
    body, kind = ANSWERS[case]
    ours = await asked(tmp_path, upstream, body, kind)
    if kind == FRAMES:
        told = parsed_stream(body)
        end = {name: value for event in told for name, value in event.items()}
        theirs = gathered(told), end["messageStop"]["stopReason"], end["metadata"]["usage"]
    else:
        answer = parsed(body)
        theirs = answer["output"]["message"]["content"], answer["stopReason"], answer["usage"]
    assert said_by_us(ours) == said_by_botocore(*theirs)


@pytest.mark.parametrize("case", ANSWERS)
async def test_an_answer_that_is_sent_back_is_told_as_it_was_said(
    tmp_path: Path, upstream: Upstream, case: str
) -> None:
    ours = await asked(tmp_path, upstream, *ANSWERS[case])
    message = {"role": "assistant", **ours.choices[0].message.model_dump(exclude_none=True)}
    _, (_, said, _) = conversation([HELLO, message, {"role": "user", "content": "Go on."}], claude=True)
    body, kind = ANSWERS[case]
    told = gathered(parsed_stream(body)) if kind == FRAMES else parsed(body)["output"]["message"]["content"]
    assert said_by_botocore(_opened(said["content"]), "end_turn", USAGE) == said_by_botocore(told, "end_turn", USAGE)


async def test_thoughts_of_bedrocks_may_be_sent_to_anthropic(tmp_path: Path, upstream: Upstream) -> None:
    ours = await asked(tmp_path, upstream, *ANSWERS["a rich stream"])
    message = {"role": "assistant", **ours.choices[0].message.model_dump(exclude_none=True)}
    _, (_, said) = anthropics([HELLO, message])
    assert said["content"][:2] == [
        {"type": "thinking", "thinking": "Is it cold? 🤔", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "ErQCCkY="},
    ]


HELLO = {"role": "user", "content": "Hello"}
USAGE = {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0}


def _opened(blocks: list[Body]) -> list[Body]:
    """What is sent, as botocore would give it: bytes in the place of base64."""
    return [
        {"reasoningContent": {"redactedContent": base64.b64decode(hidden)}}
        if (hidden := block.get("reasoningContent", {}).get("redactedContent"))
        else block
        for block in blocks
    ]
