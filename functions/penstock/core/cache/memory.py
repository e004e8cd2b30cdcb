"""Values in the memory of this process: bounded in bytes, the least recently used go first."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

OVERHEAD = 400
"""Bytes that an entry takes beside its value, measured in bench/: the key, the records around it."""


class _Held(NamedTuple):
    value: bytes
    expires_at: float


class Memory:
    """At most ``room`` bytes of values, and at most so many ``entries`` where that is said."""

    __slots__ = ("_entries", "_held", "room", "size")

    def __init__(self, room: int, entries: int | None = None) -> None:
        self.room = room
        self.size = 0
        self._entries = entries
        self._held: OrderedDict[str, _Held] = OrderedDict()

    @property
    def bounds(self) -> tuple[int, int | None]:
        """The bytes and the entries that it may hold."""
        return self.room, self._entries

    def __len__(self) -> int:
        return len(self._held)

    def find(self, key: str, now: float) -> bytes | None:
        """The value, unless there is none or its time is over."""
        held = self._held.get(key)
        if held is None:
            return None
        if held.expires_at <= now:
            self.drop(key)
            return None
        self._held.move_to_end(key)
        return held.value

    def keep(self, key: str, value: bytes, expires: float) -> int:
        """Keep a value; answers how many others had to go. One larger than an eighth of the room is not kept."""
        self.drop(key)
        if len(value) + OVERHEAD > self.room // 8:
            return 0
        self._held[key] = _Held(value, expires)
        self.size += len(value) + OVERHEAD
        gone = self.shrink(self.room)
        while self._entries is not None and len(self._held) > self._entries:
            self.drop(next(iter(self._held)))
            gone += 1
        return gone

    def drop(self, key: str) -> None:
        """Forget a value; one that is not there is no error."""
        held = self._held.pop(key, None)
        if held is not None:
            self.size -= len(held.value) + OVERHEAD

    def shrink(self, room: int) -> int:
        """Forget the least recently used until no more than ``room`` bytes are left; answers how many went."""
        gone = 0
        while self.size > room:
            self.drop(next(iter(self._held)))
            gone += 1
        return gone

    def sweep(self, now: float) -> int:
        """Forget what has expired; answers how many."""
        over = [key for key, held in self._held.items() if held.expires_at <= now]
        for key in over:
            self.drop(key)
        return len(over)
