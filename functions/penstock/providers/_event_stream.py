"""AWS's event stream encoding: frames of headers and a payload, each with checksums.

https://smithy.io/2.0/aws/amazon-eventstream.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple
from zlib import crc32

from penstock.errors import UpstreamProtocolError

MAX_HEADERS = 128 * 1024
MAX_PAYLOAD = 24 * 1024 * 1024
_PRELUDE = struct.Struct("!III")
"""Bytes of the whole frame, bytes of its headers, checksum of both numbers."""
_AROUND = _PRELUDE.size + 4
"""Bytes of a frame beside its headers and payload."""
_FIXED = {2: "!b", 3: "!h", 4: "!i", 5: "!q", 8: "!q"}
"""Kinds of header values that are numbers; 0 and 1 are true and false, 6 bytes, 7 text, 9 a UUID."""


class Message(NamedTuple):
    """What one frame says."""

    headers: dict[str, Any]
    payload: bytes


class Frames:
    """Bytes in, messages out, however the bytes are cut."""

    __slots__ = ("_bytes",)

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that these bytes complete. Raises ``UpstreamProtocolError`` at one that is damaged."""
        self._bytes += data
        while len(self._bytes) >= _PRELUDE.size:
            total, headers, checksum = _PRELUDE.unpack_from(self._bytes)
            if crc32(self._bytes[:8]) != checksum:
                raise UpstreamProtocolError("a frame of the stream is damaged: the checksum of its prelude is wrong")
            if headers > MAX_HEADERS or not 0 <= total - headers - _AROUND <= MAX_PAYLOAD:
                raise UpstreamProtocolError(f"a frame of the stream has an impossible length of {total} bytes")
            if len(self._bytes) < total:
                return
            frame = bytes(self._bytes[:total])
            del self._bytes[:total]
            if crc32(frame[:-4]) != int.from_bytes(frame[-4:]):
                raise UpstreamProtocolError("a frame of the stream is damaged: its checksum is wrong")
            end = _PRELUDE.size + headers
            yield Message(_headers(frame[_PRELUDE.size : end]), frame[end:-4])

    def last(self) -> Iterator[Message]:
        """Nothing: a part of a frame says nothing."""
        return iter(())


def _headers(data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    at = 0
    try:
        while at < len(data):
            start = at + 1
            name, kind = data[start : start + data[at]].decode(), data[start + data[at]]
            value, at = _value(kind, data, start + data[at] + 1)
            if name in found or at > len(data):
                raise ValueError
            found[name] = value
    except (IndexError, ValueError, struct.error):
        raise UpstreamProtocolError("the headers of a frame of the stream cannot be read") from None
    return found


def _value(kind: int, data: bytes, at: int) -> tuple[Any, int]:
    """A header's value, and where it ends. Raises ``ValueError`` for a kind that there is not."""
    if kind in (0, 1):
        return kind == 0, at
    if kind in _FIXED:
        (number,) = struct.unpack_from(_FIXED[kind], data, at)
        return number, at + struct.calcsize(_FIXED[kind])
    if kind in (6, 7):
        end = at + 2 + int.from_bytes(data[at : at + 2])
        value = data[at + 2 : end]
        return value if kind == 6 else value.decode(), end
    if kind == 9:
        return data[at : at + 16], at + 16
    raise ValueError(kind)
