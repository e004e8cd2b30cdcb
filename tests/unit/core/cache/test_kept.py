"""A kept answer: told again as it came, whole or as a stream, and never if it was not whole."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.cache.kept import Kept, RecordingRelay, decode, is_whole
from penstock.core.cache.unfolding import unfold
from penstock.core.fold import fold
from penstock.schema.condensed import Condensed
from penstock.schema.request import CHAT, COMPLETIONS, EMBEDDINGS, Request
from tests.unit.core.cache.test_wishes import a_request

USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
FRAME = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return json.dumps({**FRAME, "choices": [choice]}, separators=(",", ":")).encode()


THINKING = [
    chunk({"role": "assistant", "reasoning_content": "hm"}),
    chunk({"content": "Hello"}),
    chunk({"content": " there"}),
    chunk({"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": '{"a"'}}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}),
    chunk({}, "tool_calls"),
    json.dumps({**FRAME, "choices": [], "usage": USAGE}, separators=(",", ":")).encode(),
]


def kept(payloads: list[bytes], *, stream: bool) -> Kept:
    return Kept(5.5, "first/m", "first", ("rid",), stream, payloads)


def streaming(*, usage: bool = False) -> Request:
    return a_request({"stream_options": {"include_usage": usage}}, stream=True)


@given(st.booleans(), st.lists(st.binary(min_size=1).map(lambda each: each.replace(b"\n", b" ")), min_size=1))
def test_it_is_read_as_it_was_written(stream: bool, payloads: list[bytes]) -> None:
    answer = kept(payloads if stream else [b"\n".join(payloads)], stream=stream)
    assert decode(answer.encode()) == answer


@pytest.mark.parametrize("data", [b"", b"nonsense\nmore", b'[0,1,"a","b",[],true]\nx', b'{"a":1}\nx', b"[1]\nx"])
def test_what_another_version_wrote_is_not_there(data: bytes) -> None:
    assert decode(data) is None


def test_a_stream_is_told_again_chunk_by_chunk() -> None:
    told = [each for batch in kept(THINKING, stream=True).batches(streaming(usage=True)) for each in batch]
    assert told == THINKING


def test_the_usage_is_for_those_who_asked() -> None:
    told = [each for batch in kept(THINKING, stream=True).batches(streaming()) for each in batch]
    assert told == THINKING[:-1]


async def test_a_stream_is_told_whole_with_all_that_it_said() -> None:
    whole = json.loads(await kept(THINKING, stream=True).whole(CHAT))
    message = whole["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Hello there", "hm")
    assert message["tool_calls"] == [
        {"type": "function", "id": "c1", "function": {"name": "f", "arguments": '{"a":1}'}}
    ]
    assert whole["usage"] == USAGE


_text = st.text(max_size=20)
_call = st.fixed_dictionaries({"id": _text.filter(bool), "type": st.just("function")}).flatmap(
    lambda call: st.builds(
        lambda name, arguments: {**call, "function": {"name": name, "arguments": arguments}}, _text.filter(bool), _text
    )
)
_message = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.none() | _text},
    optional={
        "reasoning_content": _text.filter(bool),
        "refusal": _text.filter(bool),
        "tool_calls": st.lists(_call, min_size=1, max_size=3),
        "audio": st.fixed_dictionaries({"id": _text.filter(bool), "data": _text.filter(bool)}),
        "annotations": st.lists(st.fixed_dictionaries({"type": _text}), min_size=1, max_size=2),
    },
)


@given(st.lists(_message, min_size=1, max_size=3), st.booleans(), st.sampled_from(["stop", "tool_calls", "length"]))
async def test_a_whole_answer_becomes_a_stream_that_folds_into_it_again(
    messages: list[dict[str, Any]], counted: bool, reason: str
) -> None:
    choices = [
        {"index": number, "message": message, "logprobs": None, "finish_reason": reason}
        for number, message in enumerate(messages)
    ]
    answer = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": choices}
    answer |= {"usage": USAGE} if counted else {}
    assert await fold(_stream(unfold(answer, CHAT)), CHAT) == answer


async def test_a_text_completion_does_too() -> None:
    choice = {"index": 0, "text": "Hello", "logprobs": None, "finish_reason": "stop"}
    answer = {"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": [choice], "usage": USAGE}
    assert await fold(_stream(unfold(answer, COMPLETIONS)), COMPLETIONS) == answer


async def _stream(payloads: list[bytes]) -> Any:
    for payload in payloads:
        yield [payload]


@pytest.mark.parametrize(
    ("reason", "whole"),
    [("stop", True), ("length", True), ("tool_calls", True), ("content_filter", False), ("abort", False)],
)
def test_an_answer_is_whole_if_it_says_that_it_ended_by_itself(reason: str, whole: bool) -> None:
    payloads = [chunk({"content": 'he wrote "finish_reason": "abort"'}), chunk({}, reason)]
    assert is_whole(payloads, streaming()) is whole
    assert is_whole(payloads[:1], streaming()) is False


def test_what_the_house_cut_short_is_whole_for_nobody_else() -> None:
    bounded = streaming()
    bounded.cap = 100
    assert not is_whole([chunk({}, "length")], bounded)
    assert is_whole([chunk({}, "stop")], bounded)


def test_what_answers_a_condensed_conversation_is_not_kept_for_the_whole_one() -> None:
    condensed = streaming()
    condensed.condensed = Condensed.__new__(Condensed)
    assert not is_whole([chunk({}, "stop")], condensed)


def test_embeddings_say_no_reason() -> None:
    assert is_whole([b'{"data":[]}'], a_request(endpoint=EMBEDDINGS))


@pytest.mark.parametrize("usage", [True, False])
def test_what_passes_is_kept_with_the_usage_whoever_sees_that(usage: bool) -> None:
    relay = RecordingRelay("m", show_usage=usage)
    shown = [each for payload in THINKING for each in relay.see([payload])]
    assert shown == (THINKING if usage else THINKING[:-1])
    assert relay.payloads == THINKING
    assert relay.usage is not None
    assert relay.usage.total_tokens == 9


def test_what_is_much_too_long_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.core.cache.kept.LARGEST", 1000)
    relay = RecordingRelay("m", show_usage=True)
    for _ in range(10):
        assert relay.see([THINKING[1]]) == [THINKING[1]]
    assert relay.payloads is None
