"""The event decoder, against a decoder that follows the specification step by step."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core import sse
from penstock.core.sse import BOM, DONE, EventDecoder, frame
from penstock.errors import UpstreamProtocolError


def reference(stream: bytes) -> list[bytes]:
    """The data of each event, as the HTML standard interprets a whole stream (9.2.6).

    Two liberties of ours: lines are joined by a space, and blank data is no event.
    """
    payloads, data = [], []
    *lines, _ = re.split(rb"\r\n|\n|\r", stream.removeprefix(BOM))
    for line in lines:
        if not line:
            if (payload := b" ".join(data)).strip():
                payloads.append(payload)
            data.clear()
            continue
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
    return payloads


def decode(pieces: list[bytes]) -> list[bytes]:
    decoder = EventDecoder()
    return [payload for piece in pieces for payload in decoder.feed(piece)]


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    """The stream in pieces, some of them empty."""
    places = [0, *sorted(place % (len(stream) + 1) for place in cuts), len(stream)]
    return [stream[start:end] for start, end in pairwise(places)]


ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])
TEXT = st.binary(max_size=12).map(lambda text: re.sub(rb"[\r\n]", b"", text))
LINES = st.one_of(
    st.just(b""),
    TEXT.map(lambda text: b"data: " + text),
    TEXT.map(lambda text: b"data:" + text),
    TEXT.map(lambda text: b": " + text),
    st.sampled_from([b"data", b"data: [DONE]", b"event: message", b"id", b"retry: 10", b"datum: x", b"data : x"]),
)
STREAMS = st.builds(
    lambda bom, lines: bom + b"".join(line + end for line, end in lines),
    st.sampled_from([b"", BOM]),
    st.lists(st.tuples(LINES, ENDS), max_size=30),
)


@given(STREAMS, st.lists(st.integers(0, 10_000), max_size=12))
def test_any_cutting_gives_what_the_specification_says(stream: bytes, cuts: list[int]) -> None:
    assert decode(cut(stream, cuts)) == reference(stream)


@given(STREAMS)
def test_each_payload_is_given_as_soon_as_its_last_byte_is_there(stream: bytes) -> None:
    decoder = EventDecoder()
    given_so_far: list[bytes] = []
    for end in range(1, len(stream) + 1):
        given_so_far += decoder.feed(stream[end - 1 : end])
        assert given_so_far == reference(stream[:end])


@given(st.binary(max_size=200), st.lists(st.integers(0, 10_000), max_size=12))
def test_any_bytes_at_all_are_cut_in_any_way_with_the_same_result(stream: bytes, cuts: list[int]) -> None:
    assert decode(cut(stream, cuts)) == decode([stream])


@given(st.lists(TEXT.filter(lambda text: text.strip()), min_size=1, max_size=5))
def test_what_is_framed_is_decoded_again(payloads: list[bytes]) -> None:
    assert decode([frame(payloads)]) == payloads


@pytest.mark.parametrize("end", [b"", b"\n", b"\r", b"\r\n"], ids=repr)
def test_what_a_stream_ends_in_is_told(end: bytes) -> None:
    decoder = EventDecoder()
    assert decoder.feed(b"data: 1\n\ndata: [DONE]" + end) == [b"1"]
    assert decoder.last() == [DONE]


@pytest.mark.parametrize("rest", [b"", b": bye\n", b"event: end\n", b"data: {", b"data: 2"], ids=repr)
def test_what_is_only_a_part_of_an_event_is_none(rest: bytes) -> None:
    decoder = EventDecoder()
    decoder.feed(b"data: 1\n\n" + rest)
    assert decoder.last() == []


@pytest.mark.parametrize("piece", [b"x" * 100, b"data: x\n" * 10, b": x\r" * 25], ids=["a line", "lines", "comments"])
def test_an_event_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch, piece: bytes) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT", 10_000)
    decoder = EventDecoder()
    fed = 0
    with pytest.raises(UpstreamProtocolError, match="longer than 10000 bytes"):  # noqa: PT012 - it needs many
        while fed < 20_000:
            decoder.feed(piece)
            fed += len(piece)
    assert fed <= 10_000


def test_the_limit_is_for_one_event_and_not_for_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT", 1000)
    decoder = EventDecoder()
    for _ in range(100):
        assert decoder.feed(b"data: " + b"x" * 900) == []
        assert decoder.feed(b"\n\n") == [b"x" * 900]


def test_a_long_event_in_small_pieces_is_joined_once() -> None:
    decoder = EventDecoder()
    assert decoder.feed(b"data: ") == []
    for _ in range(50_000):
        assert decoder.feed(b"data: 12345678901234567890\n") == []
    assert len(decoder.feed(b"\n")[0]) > 1_000_000
