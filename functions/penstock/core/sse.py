"""Server-sent events: a decoder for what upstreams really send, and the frames that we send.

https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from __future__ import annotations

from collections.abc import Sequence

from penstock.errors import UpstreamProtocolError

DONE = b"[DONE]"
PING = b": ping\n\n"
BOM = b"\xef\xbb\xbf"
MAX_EVENT = 32 * 1024 * 1024


def frame(payloads: Sequence[bytes]) -> bytes:
    """Data payloads, one line each, as they go over the wire."""
    return b"data: " + b"\n\ndata: ".join(payloads) + b"\n\n"


class EventDecoder:
    """Bytes in, data payloads out, however the bytes are cut; CR, LF and CRLF all end a line.

    The lines of a multi-line event are joined by a space: its payload is JSON, to which line breaks are spaces.
    """

    __slots__ = ("_parts", "_size")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that these bytes complete. Raises ``UpstreamProtocolError`` if one event has no end."""
        if self._parts:
            self._size += len(data)
            if self._size > MAX_EVENT:
                raise UpstreamProtocolError(f"one event of the stream is longer than {MAX_EVENT} bytes")
            self._parts.append(data)
            if b"\n" not in data and b"\r" not in data and not self._parts[-2].endswith(b"\r"):
                return []
            data = b"".join(self._parts)
            self._parts.clear()
        held = b""
        if b"\r" in data:
            if data.endswith(b"\r"):  # its LF may come next
                data, held = data[:-1], b"\r"
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *blocks, rest = data.split(b"\n\n")
        rest += held
        self._size = len(rest)
        if rest:
            self._parts.append(rest)
        payloads = []
        for block in blocks:
            if block.startswith(b"data: ") and b"\n" not in block:
                payloads.append(block[6:])
            elif (payload := _payload(block)) is not None:
                payloads.append(payload)
        return payloads

    def rest(self) -> bytes | None:
        """The payload of an event that the stream ended before closing, if there is one."""
        return _payload(b"".join(self._parts).replace(b"\r", b"\n"))


def _payload(block: bytes) -> bytes | None:
    lines = []
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        if name.removeprefix(BOM) == b"data":
            lines.append(value.removeprefix(b" "))
    return b" ".join(lines) if lines else None
