"""Server-sent events: a decoder for what upstreams really send, and the frames that we send.

https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from __future__ import annotations

from collections.abc import Sequence

from penstock.errors import UpstreamProtocolError

DONE = b"[DONE]"
BOM = b"\xef\xbb\xbf"
MAX_EVENT = 32 * 1024 * 1024


def frame(payloads: Sequence[bytes]) -> bytes:
    """Data payloads, one line each, as they go over the wire."""
    return b"data: " + b"\n\ndata: ".join(payloads) + b"\n\n"


def numbered(run: int, first: int, payloads: Sequence[bytes]) -> bytes:
    """Data payloads with their ids, ``{run}-{number}``, the first of which has the number ``first``."""
    return b"".join(b"id: %d-%d\ndata: %b\n\n" % (run, number, each) for number, each in enumerate(payloads, first))


class EventDecoder:
    """Bytes in, data payloads out, however the bytes are cut; CR, LF and CRLF all end a line. Blank data is no event.

    The lines of a multi-line event are joined by a space: its payload is JSON, to which line breaks are spaces.
    """

    __slots__ = ("_after_cr", "_parts", "_size")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._after_cr = False

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that these bytes complete. Raises ``UpstreamProtocolError`` if one event has no end."""
        if self._after_cr and data:  # a CRLF may be cut in two
            self._after_cr = False
            data = data.removeprefix(b"\n")
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if not data:
            return []
        if self._parts:
            self._size += len(data)
            if self._size > MAX_EVENT:
                raise UpstreamProtocolError(f"one event of the stream is longer than {MAX_EVENT} bytes")
            ended = b"\n\n" in data or (data.startswith(b"\n") and self._parts[-1].endswith(b"\n"))
            self._parts.append(data)
            if not ended:
                return []
            data = b"".join(self._parts)
            self._parts.clear()
        *blocks, rest = data.split(b"\n\n")
        self._size = len(rest)
        if rest:
            self._parts.append(rest)
        payloads = []
        for block in blocks:
            payload = block[6:] if block.startswith(b"data: ") and b"\n" not in block else _payload(block)
            if payload and not payload.isspace():
                payloads.append(payload)
        return payloads

    def last(self) -> list[bytes]:
        """``[DONE]``, if the stream ended before closing that event; any other is only a part of one."""
        return [DONE] if _payload(b"".join(self._parts)) == DONE else []


def _payload(block: bytes) -> bytes | None:
    lines = []
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        if name.removeprefix(BOM) == b"data":
            lines.append(value.removeprefix(b" "))
    return b" ".join(lines) if lines else None
