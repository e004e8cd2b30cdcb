"""What a real engine answers reaches an official client as OpenAI's own service would have sent it."""

from __future__ import annotations

import base64
import json
import math
import struct
from typing import Literal

import httpx
import openai as sdk
import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel, Field

from tests.engine.speech import CHAT, CONTEXT_TOKENS, COUNT, COUNTED, EMBED, GREETING, HELLO, say


class Choice(BaseModel):
    """Two fields that the model never writes of its own accord."""

    colour: Literal["red", "green"]
    weight: int = Field(ge=0, le=9)


async def test_a_chat_is_answered_under_the_public_name(openai: AsyncOpenAI) -> None:
    raw = await openai.chat.completions.with_raw_response.create(model=CHAT, temperature=0, messages=say(HELLO))
    answer = raw.parse()
    assert answer.choices[0].message.content == GREETING
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == CHAT
    assert raw.headers["x-request-id"]
    assert answer.usage
    assert answer.usage.prompt_tokens > 0
    assert answer.usage.completion_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


async def test_a_stream_brings_the_same_answer_piece_by_piece(openai: AsyncOpenAI) -> None:
    stream = await openai.chat.completions.create(model=CHAT, temperature=0, messages=say(COUNT), stream=True)
    chunks = [chunk async for chunk in stream]
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
    assert "".join(pieces) == COUNTED
    assert len(pieces) >= 10
    assert {chunk.model for chunk in chunks} == {CHAT}
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks), "usage came without being asked for"


async def test_a_stream_tells_its_usage_when_asked(openai: AsyncOpenAI) -> None:
    plain = await openai.chat.completions.create(model=CHAT, temperature=0, messages=say(COUNT))
    stream = await openai.chat.completions.create(
        model=CHAT, temperature=0, messages=say(COUNT), stream=True, stream_options={"include_usage": True}
    )
    *_, last = [chunk async for chunk in stream]
    assert last.usage
    assert plain.usage
    assert last.choices == []
    assert last.usage.prompt_tokens == plain.usage.prompt_tokens
    assert last.usage.completion_tokens == plain.usage.completion_tokens


async def test_tokens_that_the_engine_had_cached_are_reported(openai: AsyncOpenAI) -> None:
    prompt = say("alpha bravo charlie " * 20)
    for _ in range(2):
        answer = await openai.chat.completions.create(model=CHAT, messages=prompt, max_tokens=1)
    assert answer.usage
    assert answer.usage.prompt_tokens_details
    assert answer.usage.prompt_tokens_details.cached_tokens == answer.usage.prompt_tokens - 1


async def test_a_bare_stream_is_events_that_end_with_done(http: httpx.AsyncClient) -> None:
    body = {"model": CHAT, "temperature": 0, "messages": say(HELLO), "stream": True}
    response = await http.post("/v1/chat/completions", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    *events, done, rest = response.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    documents = [json.loads(event.removeprefix("data: ")) for event in events]
    assert "".join(document["choices"][0]["delta"].get("content") or "" for document in documents) == GREETING


async def test_a_json_schema_binds_the_answer(openai: AsyncOpenAI) -> None:
    answer = await openai.chat.completions.parse(
        model=CHAT, temperature=0, messages=say(HELLO), response_format=Choice, max_tokens=200
    )
    assert isinstance(answer.choices[0].message.parsed, Choice)
    assert answer.choices[0].finish_reason == "stop"


async def test_a_json_schema_binds_a_stream(openai: AsyncOpenAI) -> None:
    async with openai.chat.completions.stream(
        model=CHAT, temperature=0, messages=say(HELLO), response_format=Choice, max_tokens=200
    ) as stream:
        answer = await stream.get_final_completion()
    assert isinstance(answer.choices[0].message.parsed, Choice)


async def test_json_without_a_schema_is_json(openai: AsyncOpenAI) -> None:
    answer = await openai.chat.completions.create(
        model=CHAT, temperature=0, messages=say("as json: kilo"), response_format={"type": "json_object"}
    )
    assert json.loads(answer.choices[0].message.content or "") == {"word": "kilo"}


async def test_several_choices_and_their_probabilities_come_whole(openai: AsyncOpenAI) -> None:
    answer = await openai.chat.completions.create(
        model=CHAT, temperature=0, messages=say(HELLO), n=2, logprobs=True, top_logprobs=2
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    for choice in answer.choices:
        assert choice.message.content == GREETING
        assert choice.logprobs
        assert choice.logprobs.content
        assert "".join(token.token for token in choice.logprobs.content).startswith(GREETING)
        assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in choice.logprobs.content)


async def test_a_text_is_completed_plain_and_streamed(openai: AsyncOpenAI) -> None:
    prompt = f"<|im_start|>user\n{HELLO}<|im_end|>\n<|im_start|>assistant\n"
    plain = await openai.completions.create(model=CHAT, temperature=0, prompt=prompt, max_tokens=40)
    assert (plain.choices[0].text, plain.model) == (GREETING, CHAT)
    stream = await openai.completions.create(model=CHAT, temperature=0, prompt=prompt, max_tokens=40, stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == GREETING


async def test_embeddings_of_texts_and_of_tokens(openai: AsyncOpenAI) -> None:
    texts = await openai.embeddings.create(model=EMBED, input=["alpha", "bravo"], encoding_format="float")
    first, second = (entry.embedding for entry in texts.data)
    assert [entry.index for entry in texts.data] == [0, 1]
    assert texts.model == EMBED
    assert math.isclose(math.hypot(*first), 1, rel_tol=1e-3)
    assert len(first) == len(second)
    assert first != second
    assert texts.usage.prompt_tokens > 0
    tokens = await openai.embeddings.create(model=EMBED, input=[[5, 6, 7], [8, 9]], encoding_format="float")
    assert tokens.usage.prompt_tokens == 5


async def test_base64_embeddings_are_the_same_numbers(http: httpx.AsyncClient) -> None:
    async def embed(encoding: str) -> str | list[float]:
        body = {"model": EMBED, "input": "alpha", "encoding_format": encoding}
        found: str | list[float] = (await http.post("/v1/embeddings", json=body)).json()["data"][0]["embedding"]
        return found

    packed, numbers = await embed("base64"), await embed("float")
    assert isinstance(packed, str)
    assert isinstance(numbers, list)
    assert struct.unpack(f"<{len(numbers)}f", base64.b64decode(packed)) == pytest.approx(numbers)


async def test_models_are_listed_under_their_public_names(openai: AsyncOpenAI) -> None:
    assert {model.id async for model in openai.models.list()} == {CHAT, EMBED}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_a_conversation_longer_than_the_context_is_the_callers_mistake(openai: AsyncOpenAI, stream: bool) -> None:
    with pytest.raises(sdk.BadRequestError, match=str(CONTEXT_TOKENS)) as refused:
        await openai.chat.completions.create(model=CHAT, messages=say("alpha bravo " * 1000), stream=stream)
    assert refused.value.code == "context_length_exceeded"
    assert refused.value.type == "invalid_request_error"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_a_schema_that_the_engine_cannot_follow_is_the_callers_mistake(openai: AsyncOpenAI, stream: bool) -> None:
    with pytest.raises(sdk.BadRequestError, match="Unsupported type") as refused:
        await openai.chat.completions.create(
            model=CHAT,
            messages=say(HELLO),
            stream=stream,
            response_format={"type": "json_schema", "json_schema": {"name": "odd", "schema": {"type": "odd"}}},
        )
    assert ".cc" not in refused.value.message, "a path of the engine's build shows"


async def test_a_model_that_nobody_has_is_not_found_though_the_engine_would_answer(openai: AsyncOpenAI) -> None:
    with pytest.raises(sdk.NotFoundError, match="tiny-other") as refused:
        await openai.chat.completions.create(model="tiny-other", messages=say(HELLO))
    assert refused.value.code == "model_not_found"
    with pytest.raises(sdk.NotFoundError, match="'tiny'"):
        await openai.chat.completions.create(model="tiny", messages=say(HELLO))


async def test_a_chat_with_an_engine_that_only_embeds_is_refused_and_does_not_kill_it(openai: AsyncOpenAI) -> None:
    with pytest.raises(sdk.BadRequestError, match=EMBED):
        await openai.chat.completions.create(model=EMBED, messages=say(HELLO))
    assert (await openai.embeddings.create(model=EMBED, input="alpha")).data


async def test_embeddings_of_an_engine_that_only_chats_are_refused(openai: AsyncOpenAI) -> None:
    with pytest.raises(sdk.BadRequestError, match="embedding"):
        await openai.embeddings.create(model=CHAT, input="alpha")


async def test_fields_that_would_steer_the_engine_itself_do_not_reach_it(openai: AsyncOpenAI) -> None:
    answer = await openai.chat.completions.create(
        model=CHAT,
        temperature=0,
        messages=say(HELLO),
        extra_body={"input_ids": [5, 6], "rid": "mine", "lora_path": "x"},
    )
    assert answer.choices[0].message.content == GREETING
    assert answer.id != "mine"
