"""What a call does, step by step, whoever carries it out: it yields a step, and is sent what came of it."""

from __future__ import annotations

import json
import math
import random
import time
import uuid
from collections.abc import Generator
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

from penstock.client._errors import REFUSALS, Refused, StillRunning, TaskFailed, Unreachable

TIMEOUT = 60.0
"""Seconds without a byte after which a connection is given up; a stream says something every 15."""
TRIES = 8
BACKOFF, LONGEST = 0.5, 10.0
"""Seconds before something is tried again that failed, doubled each time, and at most: half a minute in all."""
PASSING = (0, 429, 502, 503, 504)
"""Statuses after which it is tried again; 0 is no answer at all."""
LARGEST_EVENT = 64 * 1024 * 1024

T = TypeVar("T")
Event = dict[str, Any]


class Ask(NamedTuple):
    """Send a request, and answer its ``Head``. ``patience`` is in seconds without a byte."""

    method: str
    path: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    patience: float = TIMEOUT


class Read(NamedTuple):
    """Read on; answers bytes, ``b""`` at the end of the body, or why there is no more of it as a text."""


class Pause(NamedTuple):
    """Wait."""

    seconds: float


class Head(NamedTuple):
    """The head of an answer; status 0 and the reason where there is none. Headers by their lower-case names."""

    status: int
    headers: dict[str, str]
    reason: str = ""


Step = Ask | Read | Pause
Script = Generator[Step, Any, T]


class _Answer(NamedTuple):
    """A head, and the body after it."""

    head: Head
    body: bytes = b""


class _Deadline:
    """The end of a caller's patience."""

    def __init__(self, task_id: str, seconds: float | None) -> None:
        self._task_id = task_id
        self._end = math.inf if seconds is None else time.monotonic() + seconds

    def left(self) -> float:
        """Seconds. Raises ``StillRunning`` if there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise StillRunning(f"The task {self._task_id} has not ended in time; it goes on.")
        return left


class _Tries:
    """Failures in a row, each followed by a longer pause."""

    def __init__(self) -> None:
        self._failures = 0

    def after(self, answer: _Answer) -> float:
        """Seconds before the next try. Raises ``LLMError`` if there is to be none."""
        head = answer.head
        self._failures += 1
        if head.status not in PASSING or self._failures == TRIES or head.headers.get("x-should-retry") == "false":
            raise _refusal(answer) if head.status else Unreachable(head.reason)
        backoff = min(BACKOFF * 2.0 ** (self._failures - 1), LONGEST) * random.uniform(0.5, 1.0)
        return max(backoff, _retry_after(head))


class _Events:
    """Cuts a stream into its events; ``last_id`` is where another connection goes on."""

    def __init__(self) -> None:
        self.last_id = ""
        self._rest = b""

    def feed(self, piece: bytes) -> list[Event]:
        """The events that these bytes complete."""
        *blocks, self._rest = (self._rest + piece).split(b"\n\n")
        if len(self._rest) > LARGEST_EVENT:
            raise Unreachable(f"One event of the stream is longer than {LARGEST_EVENT} bytes.")
        found = []
        for block in blocks:
            fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line)
            if b"data" in fields:
                self.last_id = fields.get(b"id", b"").decode() or self.last_id
                found.append(json.loads(fields[b"data"]))
        return found

    def cut(self) -> None:
        """What was begun is sent again by the next connection."""
        self._rest = b""


def submitted(prompt: str, fields: dict[str, Any]) -> Script[Event]:
    """Submit a prompt."""
    body = {"prompt": prompt, **{name: value for name, value in fields.items() if value is not None}}
    once = ("idempotency-key", uuid.uuid4().hex)  # sent again, it is the same task
    return _told(Ask("POST", "/generate", json.dumps(body).encode(), (once,)))


def status(task_id: str) -> Script[Event]:
    """How far a task is."""
    return _told(Ask("GET", f"/status/{_quoted(task_id)}"))


def result(task_id: str) -> Script[Event]:
    """What has become of a task."""
    return _told(Ask("GET", f"/result/{_quoted(task_id)}"))


def cancelled(task_id: str) -> Script[Event]:
    """End a task."""
    return _told(Ask("DELETE", f"/v1/jobs/{_quoted(task_id)}"))


def _told(ask: Ask) -> Script[Event]:
    return _document((yield from _answered(ask)))


def awaited(task_id: str, seconds: float | None) -> Script[Event]:
    """Poll as often as the gateway says, until the task has ended."""
    deadline, known = _Deadline(task_id, seconds), ""
    while True:
        headers = (("if-none-match", known),) if known else ()
        answer = yield from _answered(Ask("GET", f"/result/{_quoted(task_id)}", headers=headers))
        if answer.head.status != 304 and _is_whole(told := _document(answer)):
            return told
        known = answer.head.headers.get("etag", "")
        yield Pause(min(_retry_after(answer.head) or 1.0, deadline.left()))


def followed(task_id: str, seconds: float | None) -> Generator[Step | Event, Any, None]:
    """Read the stream to its end, over as many connections as it takes; events are yielded among the steps."""
    deadline, events, tries = _Deadline(task_id, seconds), _Events(), _Tries()
    while True:
        after = (("last-event-id", events.last_id),) if events.last_id else ()
        answer = _Answer(
            (yield Ask("GET", f"/stream/{_quoted(task_id)}", headers=after, patience=min(TIMEOUT, deadline.left())))
        )
        if answer.head.status == 200:
            while isinstance(piece := (yield Read()), bytes) and piece:
                for event in events.feed(piece):
                    tries = _Tries()
                    yield event
                    if _is_whole({"task_id": task_id, **event}):
                        return
                deadline.left()
            answer = _Answer(Head(0, {}, piece if isinstance(piece, str) else "The stream broke off."))
            events.cut()
        else:
            answer = _Answer(answer.head, _bytes((yield from _body())))
        yield Pause(min(tries.after(answer), deadline.left()))


def _answered(ask: Ask) -> Script[_Answer]:
    """A good answer, asked for again after what may pass."""
    tries = _Tries()
    while True:
        head = yield ask
        body = yield from _body()
        answer = _Answer(head, body) if isinstance(body, bytes) else _Answer(Head(0, {}, body))
        if 0 < answer.head.status < 400:
            return answer
        yield Pause(tries.after(answer))


def _body() -> Script[bytes | str]:
    """The whole body, or why it is not whole."""
    parts: list[bytes] = []
    while piece := (yield Read()):
        if isinstance(piece, str):
            return piece
        parts.append(piece)
    return b"".join(parts)


def _bytes(body: bytes | str) -> bytes:
    return body if isinstance(body, bytes) else b""


def _retry_after(head: Head) -> float:
    value = head.headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() else 0.0


def _document(answer: _Answer) -> Event:
    try:
        document = json.loads(answer.body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise Refused("The answer is no JSON object: is this a gateway?", answer.head.status)
    return document


def _refusal(answer: _Answer) -> Refused:
    status = answer.head.status
    try:
        message = str(json.loads(answer.body)["detail"])
    except (ValueError, KeyError, TypeError):
        message = f"The answer has status {status} and no reason: is this a gateway?"
    return REFUSALS.get(status, Refused)(message, status, _retry_after(answer.head) or None)


def _is_whole(told: Event) -> bool:
    """Whether a task has its text. Raises ``TaskFailed`` if it will have none."""
    if told["status"] == "error":
        raise TaskFailed(told["error_message"], told.get("task_id", ""), told["error_type"])
    return bool(told["status"] == "completed")


def following(script: Generator[Step | Event, Any, None], came: Any) -> Step | Event | None:
    """The next step or event, or ``None`` at the end."""
    try:
        return script.send(came)
    except StopIteration:
        return None


def _quoted(task_id: str) -> str:
    return quote(task_id, safe="")
