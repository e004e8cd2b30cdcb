"""Frames of AWS's event streams are read as botocore reads them, however the bytes are cut or damaged."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from zlib import crc32

import pytest
from botocore.eventstream import EventStreamBuffer, ParserError
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import UpstreamProtocolError
from penstock.providers._event_stream import MAX_HEADERS, MAX_PAYLOAD, Frames
from tests.wire.amazon import event, exception

WHOLE = (
    event("messageStart", {"role": "assistant"}) + event("contentBlockDelta", {"text": "Grüße"}) + exception("x", "y")
)

Said = list[tuple[dict[str, Any], bytes]]

texts = st.text(max_size=12)
values = st.one_of(
    st.booleans().map(lambda true: (0 if true else 1, b"")),
    *(
        st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1).map(
            lambda number, kind=kind, form=form: (kind, struct.pack(form, number))
        )
        for kind, form, bits in ((2, "!b", 8), (3, "!h", 16), (4, "!i", 32), (5, "!q", 64), (8, "!q", 64))
    ),
    st.binary(max_size=12).map(lambda data: (6, struct.pack("!H", len(data)) + data)),
    texts.map(lambda text: (7, struct.pack("!H", len(text.encode())) + text.encode())),
    st.just((9, uuid.UUID(int=7).bytes)),
)
names = st.text(min_size=1, max_size=12).map(str.encode)
frames = st.builds(
    lambda headers, payload: _frame(b"".join(_header(name, *value) for name, value in headers.items()), payload),
    st.dictionaries(names, values, max_size=4),
    st.binary(max_size=40),
)


def _header(name: bytes, kind: int, value: bytes) -> bytes:
    return bytes([len(name)]) + name + bytes([kind]) + value


def _frame(headers: bytes, payload: bytes) -> bytes:
    prelude = struct.pack("!II", len(headers) + len(payload) + 16, len(headers))
    whole = prelude + struct.pack("!I", crc32(prelude)) + headers + payload
    return whole + struct.pack("!I", crc32(whole))


def ours(pieces: Sequence[bytes]) -> tuple[Said, bool]:
    """What we read, and whether it ended in an error."""
    reader, said = Frames(), []
    try:
        for piece in pieces:
            said.extend((message.headers, message.payload) for message in reader.feed(piece))
    except UpstreamProtocolError:
        return said, True
    return said, False


def theirs(pieces: Sequence[bytes]) -> tuple[Said, bool]:
    """What botocore reads."""
    buffer, said = EventStreamBuffer(), []
    try:
        for piece in pieces:
            buffer.add_data(piece)
            said.extend((message.headers, message.payload) for message in buffer)
    except (ParserError, ValueError):
        return said, True
    return said, False


@given(st.lists(frames, max_size=5), st.lists(st.integers(0, 400), max_size=6))
def test_frames_cut_anywhere_say_what_they_say_to_botocore(whole: list[bytes], cuts: list[int]) -> None:
    data = b"".join(whole)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in pairwise(edges)]
    assert ours(pieces) == theirs(pieces) == theirs([data])
    assert len(ours(pieces)[0]) == len(whole)


@pytest.mark.parametrize("at", range(len(WHOLE) + 1))
def test_a_stream_cut_at_any_byte_gives_the_frames_before_it(at: int) -> None:
    assert ours([WHOLE[:at], WHOLE[at:]]) == theirs([WHOLE])
    assert ours([WHOLE[:at]]) == theirs([WHOLE[:at]])


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_a_damaged_byte_is_noticed_before_its_frame_is_believed(at: int, by: int) -> None:
    damaged = bytearray(WHOLE)
    damaged[at] ^= by
    said, failed = ours([bytes(damaged)])
    assert failed
    assert (said, failed) == theirs([bytes(damaged)])


def test_single_bytes() -> None:
    assert ours([bytes([byte]) for byte in WHOLE]) == theirs([WHOLE])


def _prelude(total: int, headers: int) -> bytes:
    numbers = struct.pack("!II", total, headers)
    return numbers + struct.pack("!I", crc32(numbers))


@pytest.mark.parametrize(
    "prelude",
    [
        _prelude(MAX_PAYLOAD + 17, 0),
        _prelude(MAX_HEADERS + 17, MAX_HEADERS + 1),
        _prelude(15, 0),
        _prelude(20, 5),
        _prelude(2**32 - 1, 0),
    ],
)
def test_a_length_that_cannot_be_is_refused_before_it_is_waited_for(prelude: bytes) -> None:
    with pytest.raises(UpstreamProtocolError, match="impossible length"):
        list(Frames().feed(prelude))


@pytest.mark.parametrize(
    "headers",
    [
        _header(b"a", 0, b"") * 2,
        _header(b"a", 10, b""),
        _header(b"a", 7, b"\x00\x02\xff\xff"),
        _header(b"\xff", 0, b""),
        b"\x05ab",
        _header(b"a", 7, b"\x00\x09abc"),
        _header(b"a", 4, b"\x00"),
        _header(b"a", 9, b"\x00"),
        b"\x01a",
    ],
    ids=["twice", "a kind of tomorrow", "no text", "no name", *(f"cut short {number}" for number in range(5))],
)
def test_headers_that_cannot_be_read_are_an_error(headers: bytes) -> None:
    with pytest.raises(UpstreamProtocolError, match="headers"):
        list(Frames().feed(_frame(headers, b"{}")))
