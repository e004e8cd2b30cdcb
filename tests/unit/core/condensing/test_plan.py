"""What stays of any conversation: instructions, what was said last, calls with all their results."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.condensing.plan import ASKED, TOLD, Plan, plan, units_of

Message = dict[str, Any]
SUMMARY = "THE SUMMARY"
TEXTS = st.text("abc é漢\n", max_size=60)
PARTS = st.lists(
    st.one_of(
        TEXTS.map(lambda text: {"type": "text", "text": text}),
        st.just({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}),
    ),
    min_size=1,
    max_size=3,
)


def said(role: str) -> st.SearchStrategy[list[Message]]:
    return st.builds(lambda content: [{"role": role, "content": content}], st.one_of(TEXTS, PARTS))


@st.composite
def calls(draw: st.DrawFn) -> list[Message]:
    """A call of one or more tools, and all of its results."""
    ids = [f"call_{draw(st.integers(0, 10**9))}" for _ in range(draw(st.integers(1, 3)))]
    function = {"name": "look", "arguments": draw(TEXTS)}
    asking = {
        "role": "assistant",
        "content": draw(st.none() | TEXTS),
        "tool_calls": [{"id": name, "type": "function", "function": function} for name in ids],
    }
    return [asking, *({"role": "tool", "tool_call_id": name, "content": draw(TEXTS)} for name in ids)]


CONVERSATIONS = st.builds(
    lambda first, turns: [*first, *(message for turn in turns for message in turn)],
    st.lists(st.builds(lambda: {"role": "system", "content": "Be good."}), max_size=2),
    st.lists(st.one_of(said("user"), said("assistant"), calls(), said("developer")), min_size=1, max_size=14),
)
ROOMS = st.none() | st.integers(0, 400)


def condensed(found: Plan) -> list[Message]:
    return found.condensed(SUMMARY, len(found.old))


def are_summary(message: Message) -> bool:
    return message.get("content") in (ASKED, SUMMARY, TOLD + SUMMARY)


@settings(max_examples=400, deadline=None)
@given(CONVERSATIONS, st.integers(1, 8), ROOMS, st.integers(0, 14))
def test_every_call_keeps_its_results_and_every_result_its_call(
    messages: list[Message], keep: int, room: int | None, after: int
) -> None:
    if (found := plan(messages, keep=keep, room=room)) is None:
        return
    for message in (story := found.condensed(SUMMARY, min(after, len(found.old)))):
        if ids := [call["id"] for call in message.get("tool_calls", ())]:
            at = next(n for n, each in enumerate(story) if each is message)
            assert [each.get("tool_call_id") for each in story[at + 1 : at + 1 + len(ids)]] == ids
    results = [m for m in story if m["role"] == "tool"]
    assert len(results) == sum(len(m.get("tool_calls", ())) for m in story)


@settings(max_examples=400, deadline=None)
@given(CONVERSATIONS, st.integers(1, 8), ROOMS)
def test_instructions_and_the_last_messages_stay_word_for_word_and_in_order(
    messages: list[Message], keep: int, room: int | None
) -> None:
    if (found := plan(messages, keep=keep, room=room)) is None:
        return
    story = [message for message in condensed(found) if not are_summary(message)]
    positions = [next(n for n, each in enumerate(messages) if each is message) for message in story]
    ordinary = [n for n in positions if messages[n]["role"] not in ("system", "developer")]
    assert ordinary == sorted(ordinary)
    instructions = [n for n, message in enumerate(messages) if message["role"] in ("system", "developer")]
    assert [n for n in positions if n in instructions] == instructions
    spoken = [n for n in range(len(messages)) if n not in instructions]
    assert ordinary[-1] == spoken[-1]
    if room is None:
        assert set(spoken[-keep:]) <= set(ordinary) or len(units_of(messages)) <= keep


@settings(max_examples=400, deadline=None)
@given(CONVERSATIONS, st.integers(1, 8))
def test_what_the_user_asked_last_stays_word_for_word(messages: list[Message], keep: int) -> None:
    if (found := plan(messages, keep=keep, room=None)) is None:
        return
    asked = [message for message in messages if message["role"] == "user"]
    assert not asked or any(message is asked[-1] for message in condensed(found))


@settings(max_examples=400, deadline=None)
@given(CONVERSATIONS, st.integers(1, 8), ROOMS)
def test_the_summary_stands_once_before_what_follows_and_nobody_speaks_twice_because_of_it(
    messages: list[Message], keep: int, room: int | None
) -> None:
    if (found := plan(messages, keep=keep, room=room)) is None:
        return
    story = condensed(found)
    at = next(n for n, message in enumerate(story) if are_summary(message))
    assert all(message["role"] in ("system", "developer") for message in story[:at])
    assert sum(SUMMARY in str(message["content"]) for message in story) == 1
    end = max(n for n, message in enumerate(story) if are_summary(message))
    assert story[end + 1]["role"] != story[end]["role"]
    assert story[at]["role"] == "user"


@settings(max_examples=200, deadline=None)
@given(CONVERSATIONS, st.integers(1, 8), st.integers(0, 400))
def test_what_stays_has_room(messages: list[Message], keep: int, room: int) -> None:
    if (found := plan(messages, keep=keep, room=room)) is None:
        return
    kept = sum(unit.size for unit in units_of(messages) if set(unit.numbers) <= set(found.kept))
    assert kept <= room


def turn(number: int) -> list[Message]:
    return [{"role": "user", "content": f"q{number}"}, {"role": "assistant", "content": f"a{number}"}]


def test_a_conversation_goes_on_from_where_the_user_spoke() -> None:
    messages = [{"role": "system", "content": "s"}, *turn(1), *turn(2), *turn(3), {"role": "user", "content": "q4"}]
    found = plan(messages, keep=2, room=None)
    assert found is not None
    assert [message["content"] for message in condensed(found)] == ["s", ASKED, SUMMARY, "q3", "a3", "q4"]


def test_of_one_long_turn_the_question_stays_and_the_work_on_it_is_summed_up() -> None:
    def work(number: int) -> list[Message]:
        call = {"id": f"c{number}", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        asking: Message = {"role": "assistant", "content": None, "tool_calls": [call]}
        return [asking, {"role": "tool", "tool_call_id": f"c{number}", "content": f"r{number}"}]

    messages = [*turn(0), {"role": "user", "content": "the question"}]
    messages += [message for number in range(20) for message in work(number)]
    found = plan(messages, keep=2, room=None)
    assert found is not None
    assert condensed(found) == [
        {"role": "user", "content": ASKED},
        {"role": "assistant", "content": SUMMARY},
        {"role": "user", "content": "the question"},
        *work(19),
    ]


def test_of_a_summary_that_is_kept_of_the_beginning_what_follows_it_stays() -> None:
    messages = [*turn(1), *turn(2), *turn(3), *turn(4)]
    found = plan(messages, keep=2, room=None)
    assert found is not None
    story = found.condensed(SUMMARY, 2)
    assert [message["content"] for message in story] == [ASKED, SUMMARY, "q2", "a2", "q3", "a3", "q4", "a4"]


def test_nothing_can_be_won_of_one_message_or_where_the_last_has_no_room() -> None:
    assert plan([{"role": "system", "content": "s"}, {"role": "user", "content": "q"}], keep=2, room=None) is None
    assert plan([*turn(1), {"role": "user", "content": "x" * 4000}], keep=2, room=500) is None
