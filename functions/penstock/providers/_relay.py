"""What a stream is cut into, and what its pieces become, whatever the wire: the parts of ``Line.relay``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from penstock.errors import UpstreamError
from penstock.outbound import Response


class Cutter(Protocol):
    """Bytes in, pieces out, however the bytes are cut."""

    def feed(self, data: bytes) -> Iterable[Any]:
        """The pieces that these bytes complete. Raises ``UpstreamProtocolError``."""
        ...

    def last(self) -> Iterable[Any]:
        """The piece that the stream ended in without a mark of its end, if it counts."""
        ...


class Whole:
    """The cutter of an answer that is no stream: all of it is one piece."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """Nothing yet."""
        self._parts.append(data)
        return []

    def last(self) -> list[bytes]:
        """The answer."""
        return [b"".join(self._parts)]


class Reader(Protocol):
    """Chunks of OpenAI's out of pieces; ``count`` of them so far. ``done`` once the last piece was read."""

    @property
    def done(self) -> bool: ...

    @property
    def count(self) -> int: ...

    def read(self, pieces: Any) -> tuple[list[bytes], UpstreamError | None]:
        """What to give to the caller now, and the failure that ended it, if one did."""
        ...


class Opened(NamedTuple):
    """A stream that has begun to come, and ``end``, what it must not end without."""

    response: Response
    cutter: Cutter
    reader: Reader
    end: str


class Speech(Protocol):
    """What is told of one answer over a wire that is not OpenAI's."""

    @property
    def done(self) -> bool: ...


class Translator:
    """Reads one answer of another wire; ``translate`` makes chunks of a piece, or raises what ended the ``speech``."""

    def __init__(self, speech: Speech, translate: Callable[[Any], list[bytes]]) -> None:
        self.count = 0
        self._speech = speech
        self._translate = translate

    @property
    def done(self) -> bool:
        """Whether the answer is whole."""
        return self._speech.done

    def read(self, pieces: Iterable[Any]) -> tuple[list[bytes], UpstreamError | None]:
        """The chunks of some pieces, and the failure; a stream that has not begun moves on as a whole."""
        begun, batch, failure = self.count > 0, [], None
        try:
            for piece in pieces:
                if self.done:
                    break
                batch += self._translate(piece)
        except UpstreamError as error:
            failure = error
        self.count += len(batch)
        return (batch if begun or not failure else []), failure
