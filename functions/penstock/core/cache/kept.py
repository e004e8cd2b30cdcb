"""An answer as it is kept: what was said, by whom, and when."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass

from penstock.core.cache.unfolding import unfold
from penstock.core.fold import fold
from penstock.core.json import parse, to_json
from penstock.core.streams import Relay
from penstock.schema.request import EMBEDDINGS, Request

VERSION = 1
BATCH = 64
"""Payloads of a stream that are sent at a time."""
LARGEST = 32 * 1024 * 1024

_REASON = re.compile(rb'"finish_reason"\s*:\s*"([^"]*)"')  # in a text, its quotes would be escaped
_USAGE = b'"usage"'
_WHOLE = frozenset({b"stop", b"length", b"tool_calls", b"function_call"})


@dataclass(frozen=True, slots=True)
class Kept:
    """What was answered under the public model's name: the payloads of a stream, usage included, or one whole body."""

    at: float
    deployment: str
    provider: str
    dropped: tuple[str, ...]
    stream: bool
    payloads: list[bytes]

    def encode(self) -> bytes:
        """The answer as bytes: one line that says what it is, and then what was said."""
        head = [VERSION, self.at, self.deployment, self.provider, list(self.dropped), self.stream]
        return to_json(head) + b"\n" + b"\n".join(self.payloads)

    async def whole(self, endpoint: str) -> bytes:
        """The answer to a caller who asked for no stream."""
        if not self.stream:
            return self.payloads[0]
        return to_json(await fold(_batches(self.payloads), endpoint))

    def batches(self, request: Request) -> Iterator[list[bytes]]:
        """The answer to a caller who asked for a stream: chunk by chunk as it came, with usage if that was asked."""
        payloads = self.payloads if self.stream else unfold(parse(self.payloads[0]), request.endpoint)
        relay = None if request.wants_usage else Relay(request.model, show_usage=False)
        for first in range(0, len(payloads), BATCH):
            batch = payloads[first : first + BATCH]
            if shown := _without_usage(relay, batch) if relay else batch:
                yield shown


def decode(data: bytes) -> Kept | None:
    """The answer that these bytes are; ``None`` if another version wrote them."""
    head, _, said = data.partition(b"\n")
    try:
        version, at, deployment, provider, dropped, stream = parse(head)
    except (ValueError, TypeError):
        return None
    if version != VERSION:
        return None
    return Kept(at, deployment, provider, tuple(dropped), stream, said.split(b"\n") if stream else [said])


def is_whole(payloads: list[bytes], request: Request) -> bool:
    """Whether an answer is one that may be told again: it says why it ended, and it ended by itself.

    One that was cut by a bound that the house has put on it is whole for nobody else, and one to a conversation that
    had to be condensed answers less than was asked.
    """
    if request.condensed is not None:
        return False
    if request.endpoint == EMBEDDINGS:
        return True
    reasons = {reason for payload in payloads for reason in _REASON.findall(payload)}
    cut = b"length" in reasons and request.cap is not None
    return bool(reasons) and reasons <= _WHOLE and not cut


class RecordingRelay(Relay):
    """A relay that keeps what it passes on, and the usage as well where its caller does not see that."""

    __slots__ = ("_shown", "_size", "payloads")

    def __init__(self, model: str, *, show_usage: bool) -> None:
        super().__init__(model, show_usage=True)
        self._shown = None if show_usage else Relay(model, show_usage=False)
        self._size = 0
        self.payloads: list[bytes] | None = []

    def see(self, batch: list[bytes]) -> list[bytes]:
        """The batch as the caller gets it."""
        out = super().see(batch)
        if self.payloads is not None:
            self.payloads += out
            self._size += sum(map(len, out))
            if self._size > LARGEST:
                self.payloads = None
        return _without_usage(self._shown, out) if self._shown else out


def _without_usage(relay: Relay, batch: list[bytes]) -> list[bytes]:
    """Payloads under the public model's name as a caller sees them who did not ask for usage: few need a look."""
    if not any(_USAGE in payload for payload in batch):
        return batch
    return [each for payload in batch for each in (relay.see([payload]) if _USAGE in payload else [payload])]


async def _batches(payloads: list[bytes]) -> AsyncGenerator[list[bytes], None]:
    yield payloads
