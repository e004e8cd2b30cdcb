"""The official Python client, unmodified, against a running gateway."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Literal

import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from tests.e2e.server import Server
from tests.sdk.upstream import Upstream

pytestmark = pytest.mark.timeout(240)
ECHO = "simulated/echo"
HI: list[Any] = [{"role": "user", "content": "hi there"}]
SAID = "[simulated] hi there"


def tool(name: str, **properties: Any) -> Any:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [tool("weather", city={"type": "string"}), tool("time", zone={"enum": ["CET", "UTC"]})]


def test_a_plain_answer(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=ECHO, messages=HI)
    assert answer.choices[0].message.content == SAID
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.object == "chat.completion"
    assert answer.model == ECHO
    assert answer.usage
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    assert str(answer._request_id).startswith("req_")


def test_who_answered_is_told_beside_the_answer(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=ECHO, messages=HI)
    assert answer.model_extra
    info = answer.model_extra["_proxy_info"]
    assert (info["provider"], info["attempt_number"], info["request_id"]) == ("simulated", 1, answer._request_id)
    with client.chat.completions.create(model=ECHO, messages=HI, stream=True) as stream:
        chunks = list(stream)
    assert ["_proxy_info" in (chunk.model_extra or {}) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    vectors = client.embeddings.create(model=ECHO, input="x")
    assert (vectors.model_extra or {})["_proxy_info"]["provider"] == "simulated"


def test_a_streamed_answer_ends_without_usage_that_nobody_asked_for(client: OpenAI) -> None:
    with client.chat.completions.create(model=ECHO, messages=HI, stream=True) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == SAID
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert {(chunk.model, chunk.object) for chunk in chunks} == {(ECHO, "chat.completion.chunk")}
    assert all(chunk.usage is None for chunk in chunks)
    assert len({chunk.id for chunk in chunks}) == 1


def test_usage_comes_last_where_it_is_asked_for(client: OpenAI) -> None:
    options: Any = {"include_usage": True}
    with client.chat.completions.create(model=ECHO, messages=HI, stream=True, stream_options=options) as stream:
        chunks = list(stream)
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-1].choices == []
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens == 3


def test_the_public_name_is_the_only_one_that_shows(client: OpenAI) -> None:
    assert client.chat.completions.create(model="good", messages=HI).model == "good"
    with client.chat.completions.create(model="good", messages=HI, stream=True) as stream:
        assert {chunk.model for chunk in stream} == {"good"}


def test_the_stream_helper_collects_events(client: OpenAI) -> None:
    with client.chat.completions.stream(model=ECHO, messages=HI) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert final.choices[0].message.content == SAID
    assert "content.delta" in kinds
    assert kinds[-1] == "content.done"


def test_a_required_tool_is_called(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=ECHO, messages=HI, tools=TOOLS, tool_choice="required")
    calls: Any = answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.content is None
    assert [(call.type, call.function.name) for call in calls] == [("function", "weather")]
    assert json.loads(calls[0].function.arguments) == {"city": "simulated"}


def test_a_named_tool_is_called(client: OpenAI) -> None:
    choice: Any = {"type": "function", "function": {"name": "time"}}
    answer = client.chat.completions.create(model=ECHO, messages=HI, tools=TOOLS, tool_choice=choice)
    calls: Any = answer.choices[0].message.tool_calls
    assert [call.function.name for call in calls] == ["time"]
    assert json.loads(calls[0].function.arguments) == {"zone": "CET"}


def test_parallel_calls_arrive_whole(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=ECHO, messages=HI, tools=TOOLS, tool_choice="required", parallel_tool_calls=True
    )
    calls: Any = answer.choices[0].message.tool_calls
    assert [call.function.name for call in calls] == ["weather", "time"]
    assert len({call.id for call in calls}) == 2


def test_streamed_calls_are_put_together_from_their_parts(client: OpenAI) -> None:
    with client.chat.completions.stream(model="tools", messages=HI, tools=TOOLS) as stream:
        stream.until_done()
        message = stream.get_final_completion().choices[0].message
    calls: Any = message.tool_calls
    assert [(call.id, call.function.name, json.loads(call.function.arguments)) for call in calls] == [
        ("call_a", "weather", {"city": "Oslo"}),
        ("call_b", "time", {"zone": "CET"}),
    ]


def test_a_conversation_with_the_results_of_tools_goes_on(client: OpenAI) -> None:
    called = client.chat.completions.create(model=ECHO, messages=HI, tools=TOOLS, tool_choice="required")
    message: Any = called.choices[0].message
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "12 °C"}
    answer = client.chat.completions.create(model=ECHO, messages=[*HI, message, result], tools=TOOLS)
    assert answer.choices[0].message.content == SAID


class Step(BaseModel):
    explanation: str
    certain: bool


class Proof(BaseModel):
    steps: list[Step]
    first: Step
    kind: Literal["direct", "indirect"]
    note: str | None
    number: int


def test_structured_output_is_parsed(client: OpenAI) -> None:
    answer = client.chat.completions.parse(model=ECHO, messages=HI, response_format=Proof)
    first = Step(explanation="simulated", certain=True)
    assert answer.choices[0].message.parsed == Proof(steps=[], first=first, kind="direct", note="simulated", number=0)


def test_several_answers_to_one_question(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=ECHO, messages=HI, n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert {choice.message.content for choice in answer.choices} == {SAID}


def test_log_probabilities(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=ECHO, messages=HI, logprobs=True, top_logprobs=1)
    logprobs = answer.choices[0].logprobs
    assert logprobs
    assert logprobs.content
    assert "".join(entry.token for entry in logprobs.content) == SAID
    assert logprobs.content[0].top_logprobs[0].logprob == 0.0


def test_fields_that_penstock_does_not_know_reach_the_model(client: OpenAI, provider: Upstream) -> None:
    client.chat.completions.create(
        model="good", messages=HI, metadata={"a": "b"}, extra_body={"top_k": 5, "vendor": {"deep": [1, None]}}
    )
    with provider.lock:
        body = provider.seen[-1]
    assert (body["metadata"], body["top_k"], body["vendor"]) == ({"a": "b"}, 5, {"deep": [1, None]})


@pytest.mark.parametrize(
    "prompt",
    [
        "<script>alert(document.cookie)</script>",
        "'; DROP TABLE users; --",
        "{{7*7}} ${HOME} $(id) `id` %s %n ../../etc/passwd",
        "\\u0000 \\n &lt;b&gt; \u2028\u2029 \ufeff \U0001f600 e\u0301 \u202e",
        "tab\there, line\nthere, return\r\n",
    ],
)
def test_what_looks_like_an_attack_is_data(prompt: str, client: OpenAI, provider: Upstream) -> None:
    client.chat.completions.create(model="good", messages=[{"role": "user", "content": prompt}])
    with provider.lock:
        assert provider.seen[-1]["messages"] == [{"role": "user", "content": prompt}]
    answer = client.chat.completions.create(model=ECHO, messages=[{"role": "user", "content": "x " + prompt}])
    assert answer.choices[0].message.content == f"[simulated] x {prompt}"


@pytest.mark.parametrize("prompt", ["one two", [1, 2, 3], ["one", "two"], [[1], [2, 3]]])
def test_a_text_completion(prompt: Any, client: OpenAI) -> None:
    answer = client.completions.create(model=ECHO, prompt=prompt)
    assert answer.object == "text_completion"
    assert answer.choices[0].text.startswith("[simulated] ")
    with client.completions.create(model=ECHO, prompt=prompt, stream=True) as stream:
        assert "".join(chunk.choices[0].text for chunk in stream) == answer.choices[0].text


def test_embeddings_are_the_same_in_every_form(client: OpenAI) -> None:
    usual = client.embeddings.create(model=ECHO, input="hello").data[0].embedding
    floats = client.embeddings.create(model=ECHO, input="hello", encoding_format="float").data[0].embedding
    packed: Any = client.embeddings.create(model=ECHO, input="hello", encoding_format="base64").data[0].embedding
    assert usual == pytest.approx(floats, abs=1e-6)
    assert isinstance(packed, str)
    assert len(floats) == 64
    assert len(client.embeddings.create(model=ECHO, input="hello", dimensions=16).data[0].embedding) == 16


@pytest.mark.parametrize(("given", "count"), [("a", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1], [2], [3]], 3)])
def test_embeddings_take_texts_and_tokens(given: Any, count: int, client: OpenAI) -> None:
    answer = client.embeddings.create(model=ECHO, input=given)
    assert [entry.index for entry in answer.data] == list(range(count))
    assert answer.model == ECHO


def test_models_are_listed_and_described(client: OpenAI) -> None:
    listed = {model.id: model for model in client.models.list()}
    assert {ECHO, "org/team/model-1", "good"} <= listed.keys()
    for name in (ECHO, "org/team/model-1", "good"):
        assert client.models.retrieve(name) == listed[name]
    assert listed["good"].owned_by == "scripted"


def test_raw_and_streaming_responses_show_the_request_id(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model=ECHO, messages=HI)
    assert raw.headers["x-request-id"] == raw.parse()._request_id == raw.request_id
    with client.chat.completions.with_streaming_response.create(model=ECHO, messages=HI, stream=True) as response:
        assert str(response.headers["x-request-id"]).startswith("req_")
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"


async def test_asynchronous_answers_plain_and_streamed(aclient: AsyncOpenAI) -> None:
    answer = await aclient.chat.completions.create(model=ECHO, messages=HI)
    assert answer.choices[0].message.content == SAID
    stream = await aclient.chat.completions.create(model=ECHO, messages=HI, stream=True)
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == SAID
    parsed = await aclient.chat.completions.parse(model=ECHO, messages=HI, response_format=Step)
    assert parsed.choices[0].message.parsed == Step(explanation="simulated", certain=True)
    assert [model.id async for model in aclient.models.list()]
    assert len((await aclient.embeddings.create(model=ECHO, input=["a", "b"])).data) == 2


async def test_many_at_once_are_kept_apart(aclient: AsyncOpenAI) -> None:
    async def ask(number: int) -> str:
        messages: Any = [{"role": "user", "content": f"number {number}"}]
        stream = await aclient.chat.completions.create(model=ECHO, messages=messages, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert await asyncio.gather(*map(ask, range(32))) == [f"[simulated] number {number}" for number in range(32)]


async def test_a_stream_that_is_left_is_written_down_as_such(aclient: AsyncOpenAI, gateway: Server) -> None:
    stream = await aclient.chat.completions.create(
        model=ECHO, messages=HI, stream=True, extra_body={"simulate": {"tokens": 1000, "tokens_per_second": 20}}
    )
    async for _ in stream:
        break
    request = str(stream.response.headers["x-request-id"])
    await stream.close()
    for _ in range(500):
        if ended := [outcome for outcome in gateway.outcomes() if outcome["request_id"] == request]:
            break
        await asyncio.sleep(0.01)
    assert [(outcome["ended"], outcome["status"]) for outcome in ended] == [("cancelled", 499)]
