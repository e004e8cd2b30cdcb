"""Rows of a run's payloads, as both stores keep them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

PAGE = 64
"""Rows that one read answers at most."""


def pack(payloads: Sequence[bytes]) -> bytes:
    """A row's payloads in one piece: none of them holds a line break, which no SSE payload can."""
    return b"\n".join(payloads)


def unpack(rows: Iterable[tuple[int, bytes]], after: int) -> list[bytes]:
    """The payloads that follow number ``after``, of rows with the number of their first, up to the first gap."""
    found: list[bytes] = []
    for first, packed in rows:
        start = after + len(found) + 1
        if first > start:
            break
        found += packed.split(b"\n")[start - first :]
    return found
