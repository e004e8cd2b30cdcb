"""When a stream of OpenAI's begins, when it is whole, and which documents are answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from penstock.core.sse import DONE
from penstock.errors import UpstreamBusy, UpstreamError, UpstreamProtocolError
from penstock.providers._openai_answer import GAVE_UP, KEPT, Chunks, check
from penstock.schema.request import CHAT, COMPLETIONS, EMBEDDINGS


def chunk(finish: Any = None, **delta: Any) -> bytes:
    return json.dumps({"model": "up", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}).encode()


def text(text: str, finish: str | None = None) -> bytes:
    return json.dumps({"model": "up", "choices": [{"index": 0, "text": text, "finish_reason": finish}]}).encode()


def judge(document: Any) -> UpstreamError | None:
    return UpstreamBusy("full") if document and document.get("error") else None


ERROR = b'{"error": {"message": "full"}}'
NOTHING = {
    "the role": chunk(role="assistant", content=""),
    "an empty delta": chunk(),
    "nulls": chunk(content=None, tool_calls=None, refusal=None),
    "an empty text": text(""),
    "no choice": b'{"model": "up", "choices": [], "prompt_filter_results": []}',
    "no delta": b'{"model": "up", "choices": [{"index": 0, "delta": null, "finish_reason": null}]}',
    "no choices": b'{"model": "up"}',
    "a reason without words": chunk(""),
}
SOMETHING = {
    "a word": chunk(content="Hello"),
    "a space": chunk(content=" "),
    "a thought": chunk(reasoning_content="Hm"),
    "a call": chunk(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": ""}}]),
    "a refusal": chunk(refusal="No"),
    "a text": text("Hello"),
    "an end": chunk("stop"),
}


@pytest.mark.parametrize("kind", NOTHING)
def test_what_says_nothing_is_kept_until_something_is_said(kind: str) -> None:
    chunks = Chunks(judge)
    assert chunks.read([NOTHING[kind]]) == ([], None)
    assert chunks.count == 0
    assert chunks.read([SOMETHING["a word"]]) == ([NOTHING[kind], SOMETHING["a word"]], None)
    assert chunks.count == 2


@pytest.mark.parametrize("kind", SOMETHING)
def test_what_says_something_is_given_at_once(kind: str) -> None:
    assert Chunks(judge).read([SOMETHING[kind]]) == ([SOMETHING[kind]], None)


def test_no_more_is_kept_than_a_caller_could_want() -> None:
    chunks = Chunks(judge)
    for _ in range(100):
        assert chunks.read([chunk(content="")]) == ([], None)
    batch, _ = chunks.read([chunk(content="Hello")])
    assert batch == [chunk(content="")] * KEPT + [chunk(content="Hello")]


def test_an_error_before_anything_was_given_takes_the_rest_with_it() -> None:
    for before in ([], [chunk(role="assistant")], [chunk(content="Hello")]):
        batch, error = Chunks(judge).read([*before, ERROR])
        assert (batch, type(error)) == ([], UpstreamBusy)


def test_an_error_after_something_was_given_comes_after_all_of_it() -> None:
    chunks = Chunks(judge)
    chunks.read([chunk(content="Hel")])
    batch, error = chunks.read([chunk(content="lo"), ERROR, chunk(content="!")])
    assert (batch, type(error)) == ([chunk(content="lo")], UpstreamBusy)


def test_a_stream_is_whole_when_it_says_why_it_ended() -> None:
    chunks = Chunks(judge)
    chunks.read([chunk(content="Hello"), chunk("length")])
    assert not chunks.done
    assert chunks.read([DONE]) == ([], None)
    assert chunks.done


@pytest.mark.parametrize("finish", [None, "", *sorted(GAVE_UP)])
def test_a_stream_that_does_not_say_why_it_ended_is_none(finish: str | None) -> None:
    chunks = Chunks(judge)
    given, _ = chunks.read([chunk(content="Hello")])
    assert given
    batch, error = chunks.read([chunk(finish), DONE])
    assert isinstance(error, UpstreamProtocolError)
    assert batch in ([], [chunk(finish)])


def test_a_reason_that_an_answer_quotes_is_not_its_own() -> None:
    chunks = Chunks(judge)
    _, error = chunks.read([chunk(content='{"finish_reason": "stop"}'), DONE])
    assert error is not None


@pytest.mark.parametrize("payload", [b"[]", b"{", b'{"choices": 7}', b'{"choices": ["x"]}', b'{"choices":"x"}'])
def test_what_is_no_chunk_is_no_beginning(payload: bytes) -> None:
    batch, error = Chunks(judge).read([payload])
    assert (batch, type(error)) == ([], UpstreamProtocolError)


def test_what_is_no_text_is_an_error_also_later() -> None:
    chunks = Chunks(judge)
    chunks.read([chunk(content="Grüße")])
    batch, error = chunks.read([chunk(content="?").replace(b"?", b"\xff\xfe")])
    assert (batch, type(error)) == ([], UpstreamProtocolError)


def choice(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "finish_reason": "stop", **fields}]}


ANSWERS = {
    "a chat": (CHAT, choice(message={"role": "assistant", "content": "Hello"})),
    "an empty chat": (CHAT, choice(message={"role": "assistant", "content": None})),
    "a text": (COMPLETIONS, choice(text="")),
    "embeddings": (EMBEDDINGS, {"data": [{"index": 0, "embedding": [0.5]}]}),
    "packed embeddings": (EMBEDDINGS, {"data": [{"index": 0, "embedding": "AAAA"}]}),
}
NO_ANSWERS = {
    "nothing": (CHAT, {}),
    "no choice": (CHAT, {"choices": []}),
    "choices that are none": (CHAT, {"choices": "none"}),
    "a choice that is none": (CHAT, {"choices": [None]}),
    "a chat without a message": (CHAT, choice(message=None)),
    "a text for a chat": (CHAT, choice(text="Hello")),
    "a chat for a text": (COMPLETIONS, choice(message={})),
    "a chat without an end": (CHAT, choice(message={}, finish_reason=None)),
    "a chat with an odd end": (CHAT, choice(message={}, finish_reason={})),
    "a chat that was given up": (CHAT, choice(message={}, finish_reason="error")),
    "a second choice without an end": (CHAT, {"choices": choice(message={})["choices"] + [{"message": {}}]}),
    "a chat for embeddings": (EMBEDDINGS, choice(message={})),
    "an empty list of embeddings": (EMBEDDINGS, {"data": []}),
    "an embedding without one": (EMBEDDINGS, {"data": [{"index": 0}]}),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_whole_answer_is_one(kind: str) -> None:
    endpoint, document = ANSWERS[kind]
    check(document, endpoint)


@pytest.mark.parametrize("kind", NO_ANSWERS)
def test_what_is_no_whole_answer_is_a_broken_promise(kind: str) -> None:
    endpoint, document = NO_ANSWERS[kind]
    with pytest.raises(UpstreamProtocolError):
        check(document, endpoint)
