"""What the model reads that sums a conversation up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.condensing.sizes import size_of, size_of_text
from penstock.core.condensing.transcript import RESULT, pieces, told


def test_media_are_named_and_calls_are_told() -> None:
    parts = [{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {"url": "data:AAAA"}}]
    assert told({"role": "user", "content": parts}) == "user: Look:\n[image]"
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"x": 1}'}}
    asking = {"role": "assistant", "content": None, "tool_calls": [call]}
    assert told(asking) == 'assistant: [calls look with {"x": 1}]'


def test_a_long_result_of_a_tool_is_read_from_both_ends_and_what_people_said_is_read_whole() -> None:
    text = "begin " + "x" * 50_000 + " end"
    short = told({"role": "tool", "tool_call_id": "1", "content": text})
    assert short.startswith("tool: begin ")
    assert short.endswith(" end")
    assert len(short) < RESULT + 100
    assert text in told({"role": "user", "content": text})


@given(st.lists(st.text(max_size=400), max_size=8), st.integers(64, 400))
def test_pieces_say_everything_in_order_and_each_has_room(texts: list[str], room: int) -> None:
    found = pieces(texts, room)
    assert "".join(text for piece in found for text in piece) == "".join(texts)
    assert all(sum(size_of_text(text) + 2 for text in piece) <= room for piece in found)


def test_other_scripts_have_more_tokens_for_each_letter() -> None:
    assert size_of_text("hello world, how are you") == 7
    assert size_of_text("今日は天気がいい") == 9
    image = {"type": "image_url", "image_url": {"url": "data:" + "A" * 10**6}}
    assert size_of({"role": "user", "content": [image]}) < 2000
