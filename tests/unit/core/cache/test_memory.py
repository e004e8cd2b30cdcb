"""Memory: bounded, and the least recently used go first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.cache.memory import OVERHEAD, Memory

ROOM = 8 * (OVERHEAD + 100)


def test_a_value_is_found_until_it_expires() -> None:
    memory = Memory(ROOM)
    memory.keep("a", b"one", expires=10.0)
    assert memory.find("a", 9.9) == b"one"
    assert memory.find("a", 10.0) is None
    assert (len(memory), memory.size) == (0, 0)


def test_the_least_recently_used_go_first() -> None:
    memory = Memory(ROOM)
    for name in "abcdefgh":
        assert memory.keep(name, bytes(100), expires=10.0) == 0
    memory.find("a", 0.0)
    assert memory.keep("i", bytes(100), expires=10.0) == 1
    assert memory.find("b", 0.0) is None
    assert memory.find("a", 0.0) is not None


def test_one_value_does_not_drive_out_all_others() -> None:
    memory = Memory(ROOM)
    memory.keep("a", b"one", expires=10.0)
    memory.keep("large", bytes(ROOM // 8), expires=10.0)
    assert memory.find("large", 0.0) is None
    assert memory.find("a", 0.0) == b"one"


def test_a_number_of_entries_bounds_it_as_well() -> None:
    memory = Memory(10**6, entries=2)
    assert [memory.keep(name, b"x", expires=10.0) for name in "abc"] == [0, 0, 1]
    assert memory.find("a", 0.0) is None


def test_what_has_expired_is_swept() -> None:
    memory = Memory(ROOM)
    for number in range(4):
        memory.keep(str(number), b"x", expires=float(number))
    assert memory.sweep(1.0) == 2
    assert len(memory) == 2


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 3 * ROOM // 8), st.floats(0, 20)), max_size=60))
def test_it_never_holds_more_than_its_room(plays: list[tuple[str, int, float]]) -> None:
    memory = Memory(ROOM)
    for name, size, expires in plays:
        memory.keep(name, bytes(size), expires)
        memory.find(name, 10.0)
        assert 0 <= memory.size <= ROOM
    memory.shrink(0)
    assert (len(memory), memory.size) == (0, 0)
