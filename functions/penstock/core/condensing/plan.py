"""Which messages of a conversation become a summary, and which stay: always whole calls of tools with their results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from penstock.core.condensing.sizes import size_of

Message = dict[str, Any]
INSTRUCTIONS = ("system", "developer")
RESULTS = ("tool", "function")
ASKED = "Before we go on: sum up what we have said so far."
TOLD = "This is a summary of our conversation so far:\n\n"


@dataclass(frozen=True, slots=True)
class Unit:
    """Messages that stand or fall together: one, or a call of tools with its results. Numbers of the conversation's."""

    numbers: tuple[int, ...]
    size: int
    by_user: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """``old`` units become a summary. ``question``, if it is one of those, is said again word for word after it: what
    the user asked last. ``kept`` are the numbers of messages that follow, ``instructions`` of those that stay before.
    """

    messages: Sequence[Message]
    old: tuple[Unit, ...]
    question: Unit | None
    instructions: tuple[int, ...]
    kept: tuple[int, ...]

    def condensed(self, summary: str, after: int) -> list[Message]:
        """The conversation with a summary of the first ``after`` old units in their place."""
        rest = [number for unit in self.old[after:] for number in unit.numbers]
        if self.question is not None and not set(rest) & set(self.question.numbers):
            rest = [*self.question.numbers, *rest]
        follows = [self.messages[number] for number in sorted({*rest, *self.kept})]
        before = [self.messages[number] for number in self.instructions]
        if follows[0].get("role") != "user":  # nobody speaks twice in a row: some models' templates refuse that
            return [*before, {"role": "user", "content": TOLD + summary}, *follows]
        pair: list[Message] = [{"role": "user", "content": ASKED}, {"role": "assistant", "content": summary}]
        return [*before, *pair, *follows]


def plan(messages: Sequence[Message], *, keep: int, room: float | None) -> Plan | None:
    """What to do with a conversation, of which the last ``keep`` messages stay: fewer where those have no ``room``, and
    more, up to half of it, where that is known; the other half is for what is said next.

    ``room`` is in estimated tokens, for all that follows the instructions and the summary. ``None`` if nothing can be
    won: there is nothing old, or the last message alone is too long.
    """
    units = units_of(messages)
    if len(units) < 2:
        return None
    first, left = len(units) - 1, (room if room is not None else float("inf")) - units[-1].size
    if left < 0:
        return None
    count = len(units[first].numbers)
    while first > 1 and units[first - 1].size <= left:
        if count >= keep and (room is None or left - units[first - 1].size < room / 2):
            break
        first -= 1
        left -= units[first].size
        count += len(units[first].numbers)
    first = _where_a_turn_begins(units, first, keep, left)
    question = None
    if not any(unit.by_user for unit in units[first:]):
        question = next((unit for unit in reversed(units[:first]) if unit.by_user and unit.size <= left), None)
    old = units[:first]
    if all(unit is question for unit in old):
        return None
    begins = min(units[first].numbers)
    instructions = [n for n, message in enumerate(messages) if message.get("role") in INSTRUCTIONS]
    kept = [number for unit in units[first:] for number in unit.numbers]
    return Plan(
        messages,
        tuple(old),
        question,
        tuple(number for number in instructions if number < begins),
        tuple(sorted([*kept, *(number for number in instructions if number > begins)])),
    )


def units_of(messages: Sequence[Message]) -> list[Unit]:
    """The units of a conversation, without its instructions."""
    found: list[list[int]] = []
    for number, message in enumerate(messages):
        role = message.get("role")
        if role in INSTRUCTIONS:
            continue
        calls = found and (messages[found[-1][0]].get("tool_calls") or messages[found[-1][0]].get("function_call"))
        if role in RESULTS and calls:
            found[-1].append(number)
        else:
            found.append([number])
    return [
        Unit(tuple(group), sum(size_of(messages[n]) for n in group), messages[group[0]].get("role") == "user")
        for group in found
    ]


def _where_a_turn_begins(units: Sequence[Unit], first: int, keep: int, left: float) -> int:
    """The same place, or an earlier one not far away where the user speaks, if there is room."""
    at = first
    for _ in range(keep):
        if units[at].by_user or at <= 1:
            break
        at -= 1
        left -= units[at].size
        if left < 0:
            return first
    return at if units[at].by_user else first
