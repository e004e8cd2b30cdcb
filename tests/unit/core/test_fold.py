"""Folding: the chunks that an answer was cut into add up to that answer."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncGenerator, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.fold import fold
from penstock.errors import UpstreamProtocolError
from penstock.schema.request import CHAT, COMPLETIONS

Document = dict[str, Any]

TOP = {"id": "chatcmpl-1", "created": 1700000000, "model": "engine-1"}
USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}


def run(coroutine: Coroutine[Any, Any, Document]) -> Document:
    """The result of a coroutine that never waits."""
    with pytest.raises(StopIteration) as end:
        coroutine.send(None)
    result: Document = end.value.value
    return result


def folded(chunks: list[Any], endpoint: str = CHAT, batch: int = 3) -> Document:
    async def batches() -> AsyncGenerator[list[bytes], None]:
        for start in range(0, len(chunks), batch):
            yield [json.dumps(chunk).encode() for chunk in chunks[start : start + batch]]

    return run(fold(batches(), endpoint))


def chunk(delta: Document, finish: str | None = None, index: int = 0, **choice: Any) -> Document:
    return {
        **TOP,
        "object": "chat.completion.chunk",
        "choices": [{"index": index, "delta": delta, **choice, "finish_reason": finish}],
    }


def message(document: Document, index: int = 0) -> Document:
    found: Document = document["choices"][index]["message"]
    return found


# An answer, and the ways to cut it


TEXT = st.text(max_size=30)
TOKENS = st.lists(st.fixed_dictionaries({"token": TEXT, "logprob": st.floats(-20, 0)}), max_size=4)
CALL = st.fixed_dictionaries(
    {
        "id": st.text("abc123", min_size=1, max_size=8),
        "type": st.just("function"),
        "function": st.fixed_dictionaries({"name": st.text("abc_", min_size=1, max_size=8), "arguments": TEXT}),
    }
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.none() | TEXT.filter(bool)},
    optional={
        "refusal": st.none() | TEXT.filter(bool),
        "reasoning_content": TEXT.filter(bool),
        "tool_calls": st.lists(CALL, min_size=1, max_size=3),
    },
)
CHOICE = st.tuples(MESSAGE, st.none() | TOKENS, st.sampled_from(["stop", "length", "tool_calls"]))


def pieces(draw: st.DrawFn, text: str) -> list[str]:
    """A text in parts."""
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def cut_call(draw: st.DrawFn, index: int, call: Document) -> list[Document]:
    """A tool call in deltas: its name first, its arguments in parts."""
    name, arguments = call["function"]["name"], call["function"]["arguments"]
    first = {"index": index, "id": call["id"], "type": "function", "function": {"name": name, "arguments": ""}}
    rest = [{"index": index, "function": {"arguments": part}} for part in pieces(draw, arguments)]
    return [{"tool_calls": [delta]} for delta in (first, *rest)]


def cut_message(draw: st.DrawFn, whole: Document) -> list[Document]:
    """A message in deltas."""
    deltas: list[Document] = [{"role": whole["role"]}]
    for name in ("reasoning_content", "content", "refusal"):
        if whole.get(name):
            deltas += [{name: part} for part in pieces(draw, whole[name])]
        elif name in whole:
            deltas.append({name: None})
    for index, call in enumerate(whole.get("tool_calls", ())):
        deltas += cut_call(draw, index, call)
    return deltas


@st.composite
def answers(draw: st.DrawFn) -> tuple[Document, list[Document]]:
    """An answer, and the chunks of a stream that says the same, its choices interleaved."""
    choices, streams = [], []
    for index, (whole, tokens, finish) in enumerate(draw(st.lists(CHOICE, min_size=1, max_size=3))):
        logprobs = None if tokens is None else {"content": tokens}
        choices.append({"index": index, "message": whole, "logprobs": logprobs, "finish_reason": finish})
        stream = [chunk(delta, index=index) for delta in cut_message(draw, whole)]
        if tokens is not None:
            stream.append(chunk({}, index=index, logprobs={"content": []}))
            stream += [chunk({}, index=index, logprobs={"content": [token]}) for token in tokens]
        streams.append([*stream, chunk({}, finish, index)])
    chunks = []
    while any(streams):
        chunks.append(draw(st.sampled_from([stream for stream in streams if stream])).pop(0))
    answer = {**TOP, "object": "chat.completion", "choices": choices}
    if draw(st.booleans()):
        answer["usage"] = USAGE
        chunks.append({**TOP, "object": "chat.completion.chunk", "choices": [], "usage": USAGE})
    return answer, chunks


@given(answers(), st.integers(1, 5))
def test_the_chunks_of_an_answer_add_up_to_it(cut: tuple[Document, list[Document]], batch: int) -> None:
    answer, chunks = cut
    assert folded(chunks, batch=batch) == answer


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 300)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
WORDS = ["choices", "delta", "index", "content", "tool_calls", "function", "logprobs", "finish_reason", "usage", "role"]


def shaped(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Documents with the words of a chunk in the wrong places."""
    return st.dictionaries(st.sampled_from(WORDS), inner, max_size=4) | st.lists(inner, max_size=2)


CHUNK_LIKE = st.builds(
    lambda choices: {"choices": choices},
    JSON
    | st.lists(st.dictionaries(st.sampled_from(WORDS), JSON | st.recursive(JSON, shaped, max_leaves=6)), max_size=3),
)


@given(st.lists(JSON | CHUNK_LIKE, max_size=4))
def test_nonsense_is_an_upstreams_error_and_never_ours(chunks: list[Any]) -> None:
    ending = chunk({"content": "x"}, "stop")
    for stream in (chunks, [*chunks, ending], [ending, *chunks]):
        try:
            answer = folded(copy.deepcopy(stream))
        except UpstreamProtocolError:
            continue
        assert answer["choices"]


# By example


@pytest.mark.parametrize("index", ["1e999", "-1e999", "1.5", '"0"', "[0]", "null"])
def test_an_index_that_is_no_number_is_an_upstreams_error(index: str) -> None:
    async def batches() -> AsyncGenerator[list[bytes], None]:
        yield [b'{"choices": [{"index": %b, "delta": {}, "finish_reason": "stop"}]}' % index.encode()]

    with pytest.raises(UpstreamProtocolError, match="shape"):
        run(fold(batches(), CHAT))


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [{**TOP, "choices": [], "usage": USAGE}],
        [chunk({"content": "Hello"})],
        [chunk({}, "stop"), chunk({"content": "b"}, index=1)],
    ],
    ids=["nothing", "usage alone", "no end", "one of two ended"],
)
def test_an_answer_that_was_not_finished_is_an_error(chunks: list[Document]) -> None:
    with pytest.raises(UpstreamProtocolError, match="before its answer was finished"):
        folded(chunks)


def test_the_source_is_closed_when_folding_fails() -> None:
    closed = []

    async def batches() -> AsyncGenerator[list[bytes], None]:
        try:
            yield [b"{"]
        finally:
            closed.append(True)

    with pytest.raises(UpstreamProtocolError):
        run(fold(batches(), CHAT))
    assert closed


def test_a_call_of_a_function_in_the_old_style_is_put_together() -> None:
    deltas = [{"function_call": {"name": "f", "arguments": ""}}, {"function_call": {"arguments": '{"a"'}}]
    chunks = [chunk(delta) for delta in (*deltas, {"function_call": {"arguments": ": 1}"}})]
    answer = folded([*chunks, chunk({}, "function_call")])
    assert message(answer)["function_call"] == {"name": "f", "arguments": '{"a": 1}'}


def test_tool_calls_keep_their_order_whatever_comes_between() -> None:
    deltas = [
        {"index": 1, "id": "b", "function": {"name": "g", "arguments": "{"}},
        {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        {"index": 1, "function": {"arguments": "}"}},
    ]
    answer = folded([*(chunk({"tool_calls": [delta]}) for delta in deltas), chunk({}, "tool_calls")])
    assert message(answer)["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]


def test_lists_that_come_in_parts_are_put_together() -> None:
    chunks = [chunk({"annotations": [{"a": 1}]}), chunk({"annotations": [{"b": 2}]}), chunk({}, "stop")]
    assert message(folded(chunks))["annotations"] == [{"a": 1}, {"b": 2}]


def test_a_call_without_arguments_has_empty_ones() -> None:
    call = {"index": 0, "id": "a", "type": "function", "function": {"name": "f"}}
    (found,) = message(folded([chunk({"tool_calls": [call]}), chunk({}, "tool_calls")]))["tool_calls"]
    assert found["function"] == {"name": "f", "arguments": ""}


def test_tool_calls_may_be_null_before_there_are_any() -> None:
    call = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    chunks = [chunk({"role": "assistant", "tool_calls": None}), chunk({"tool_calls": [call]}), chunk({}, "tool_calls")]
    (found,) = message(folded(chunks))["tool_calls"]
    assert found["function"] == {"name": "f", "arguments": "{}"}


def test_calls_of_a_vendors_own_kind_are_put_together() -> None:
    calls = [{"index": 0, "id": "a", "type": "custom", "custom": {"name": "f", "input": "a"}}]
    more = [{"index": 0, "custom": {"input": "b"}}]
    chunks = [chunk({"tool_calls": calls}), chunk({"tool_calls": more}), chunk({}, "tool_calls")]
    assert message(folded(chunks))["tool_calls"] == [
        {"id": "a", "type": "custom", "custom": {"name": "f", "input": "ab"}}
    ]


def test_fields_of_an_engine_stay_where_they_were() -> None:
    chunks = [{**chunk({"content": "x"}, matched_stop=None), "service_tier": "flex"}, chunk({}, "stop", matched_stop=2)]
    answer = folded(chunks)
    assert answer["service_tier"] == "flex"
    assert answer["choices"][0]["matched_stop"] == 2


def test_texts_are_put_together_too() -> None:
    parts = [("Once", None), (" upon", None), ("", "length")]
    chunks = [
        {**TOP, "object": "text_completion", "choices": [{"index": 0, "text": text, "finish_reason": finish}]}
        for text, finish in parts
    ]
    assert folded(chunks, COMPLETIONS) == {
        **TOP,
        "object": "text_completion",
        "choices": [{"index": 0, "text": "Once upon", "logprobs": None, "finish_reason": "length"}],
    }


def test_the_logprobs_of_texts_are_put_together() -> None:
    def part(token: str, finish: str | None = None) -> Document:
        logprobs = {"tokens": [token], "token_logprobs": [-0.5], "top_logprobs": [{token: -0.5}], "text_offset": [0]}
        return {**TOP, "choices": [{"index": 0, "text": token, "logprobs": logprobs, "finish_reason": finish}]}

    (choice,) = folded([part("a"), part("b", "stop")], COMPLETIONS)["choices"]
    assert choice["logprobs"]["tokens"] == ["a", "b"]
    assert choice["logprobs"]["top_logprobs"] == [{"a": -0.5}, {"b": -0.5}]
