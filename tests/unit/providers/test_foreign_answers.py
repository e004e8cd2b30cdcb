"""Whatever comes from a provider with a wire of its own becomes chunks, or an error that says what it is."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from penstock.core.json import parse
from penstock.errors import UpstreamProtocolError
from penstock.providers import _bedrock_answer as bedrock
from penstock.providers._anthropic_answer import Events, answer
from penstock.providers._ollama_answer import Speech, embeddings
from penstock.schema.request import CHAT, COMPLETIONS
from tests.wire import bedrock_events
from tests.wire.test_anthropic import ANSWER
from tests.wire.test_anthropic_streams import STREAM
from tests.wire.test_ollama import CALLED, ends, line, says

LINES = [
    says("Hi", thinking="Hm."),
    says("", tool_calls=CALLED),
    {**ends(), "logprobs": [{"token": "x", "logprob": 0}]},
]
TEXTS = [line(response="Hi"), line(response="", done=True, done_reason="stop", eval_count=2)]
VECTORS = {"model": "m", "embeddings": [[0.5, 1]], "prompt_eval_count": 3}

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a document, with each key to something inside of it."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in list(inner):
        yield value, key
        yield from places(part)


@st.composite
def spoiled(draw: st.DrawFn, document: Any) -> Any:
    """The document with something else in one to three of its places, or nothing."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        container, key = draw(st.sampled_from([*places(document)]))
        if isinstance(container, dict) and key in container and draw(st.booleans()):
            del container[key]
        elif isinstance(container, list) or key in container:
            container[key] = draw(anything)
    return document


def read(documents: list[Any], reader: Callable[[Any], list[bytes]]) -> None:
    for document in documents:
        if not isinstance(document, dict):
            continue  # `read_chunk` refuses it before
        try:
            chunks = reader(document)
        except UpstreamProtocolError:
            return
        assert all(isinstance(parse(chunk), dict) for chunk in chunks)


@given(spoiled(list(STREAM)))
def test_events_of_anthropics(events: list[Any]) -> None:
    read(events, Events().read)


@given(spoiled({**ANSWER, "content": [*ANSWER["content"], {"type": "tool_use", "id": "t", "name": "f", "input": {}}]}))
def test_messages_of_anthropics(message: dict[str, Any]) -> None:
    with suppress(UpstreamProtocolError):
        assert answer(message)["choices"]


@given(spoiled(LINES), spoiled(TEXTS))
def test_lines_of_ollamas(lines: list[Any], texts: list[Any]) -> None:
    read(lines, Speech(CHAT, "req_1").read)
    read(texts, Speech(COMPLETIONS, "req_1").read)


@example(document={"embeddings": [[1e300]]}, packed=True)
@given(document=spoiled(VECTORS), packed=st.booleans())
def test_vectors_of_ollamas(document: dict[str, Any], packed: bool) -> None:
    with suppress(UpstreamProtocolError):
        assert "data" in embeddings(document, "m", packed=packed)


@given(spoiled([document for _, document in bedrock_events.STREAM]))
def test_events_of_bedrocks(documents: list[Any]) -> None:
    events = bedrock.Events("chatcmpl-1", "m")
    kinds = iter([kind for kind, _ in bedrock_events.STREAM])
    read(documents, lambda document: events.read(next(kinds, "metadata"), document))


@given(spoiled(bedrock_events.PLAIN))
def test_answers_of_bedrocks(document: dict[str, Any]) -> None:
    with suppress(UpstreamProtocolError):
        assert bedrock.answer(document, "chatcmpl-1", "m")["choices"]
    read([document], bedrock.Events("chatcmpl-1", "m").retell)
