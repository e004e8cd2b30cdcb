"""What the clients do step by step, without a connection: the steps are answered from a list."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from penstock.client import Refused, StillRunning, TaskFailed, TaskNotFound, TooManyRequests, Unauthorized, Unreachable
from penstock.client import _script as script
from penstock.client._script import TRIES, Ask, Head, Pause, Read

DONE = {"status": "completed", "task_id": "job_1", "result": "Hi", "metrics": {}}
OPEN = {"status": "processing", "task_id": "job_1", "message": "…"}
NOBODY = Head(0, {}, "nobody is there")


class Player:
    """Answers the steps of a call from a list of heads and bodies, and notes them."""

    def __init__(self, *answers: Any) -> None:
        self._answers: Iterator[Any] = iter(answers)
        self.asks: list[Ask] = []
        self.pauses: list[float] = []
        self.events: list[Any] = []

    def play(self, steps: Any) -> Any:
        """The call's result."""
        came: Any = None
        while True:
            try:
                step = steps.send(came)
            except StopIteration as stop:
                return stop.value
            came = self._carry_out(step)

    def _carry_out(self, step: Any) -> Any:
        if isinstance(step, Pause):
            self.pauses.append(step.seconds)
            return None
        if isinstance(step, dict):
            self.events.append(step)
            return None
        if isinstance(step, Ask):
            self.asks.append(step)
            head, *self._pieces = next(self._answers)
            return head
        assert isinstance(step, Read)
        return self._pieces.pop(0) if self._pieces else b""


def good(document: Any, **headers: str) -> tuple[Head, bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Head(200, named), json.dumps(document).encode()


def bad(status: int, **headers: str) -> tuple[Head, bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Head(status, named), json.dumps({"error": "no", "status_code": status, "detail": "because"}).encode()


def test_a_task_is_polled_as_often_as_the_gateway_says_and_by_its_etag() -> None:
    unchanged = (Head(304, {"etag": '"p"', "retry-after": "4"}),)
    player = Player(good(OPEN, etag='"p"', retry_after="3"), unchanged, good(DONE))
    assert player.play(script.awaited("job_1", None)) == DONE
    assert player.pauses == [3, 4]
    assert [dict(ask.headers) for ask in player.asks] == [{}, {"if-none-match": '"p"'}, {"if-none-match": '"p"'}]


def test_waiting_ends_in_time() -> None:
    with pytest.raises(StillRunning, match="job_1") as failed:
        Player(good(OPEN)).play(script.awaited("job_1", 0.0))
    assert isinstance(failed.value, TimeoutError)


def test_a_task_that_failed_says_why() -> None:
    told = {"status": "error", "task_id": "job_1", "error_message": "Too slow.", "error_type": "TaskTimeout"}
    with pytest.raises(TaskFailed, match="Too slow") as failed:
        Player(good(told)).play(script.awaited("job_1", None))
    assert (failed.value.task_id, failed.value.error_type) == ("job_1", "TaskTimeout")


def test_a_submission_is_one_task_however_often_it_is_sent() -> None:
    player = Player((NOBODY,), bad(503), good({"task_id": "job_1"}))
    assert player.play(script.submitted("Hello", {"max_tokens": 5, "temperature": None})) == {"task_id": "job_1"}
    assert len(set(player.asks)) == 1
    assert json.loads(player.asks[0].body) == {"prompt": "Hello", "max_tokens": 5}
    assert dict(player.asks[0].headers)["idempotency-key"]


def test_a_limit_is_waited_for() -> None:
    player = Player(bad(429, retry_after="7"), good(DONE))
    assert player.play(script.result("job_1")) == DONE
    assert player.pauses == [7]


def test_a_body_that_breaks_off_is_asked_for_again() -> None:
    head, body = good(DONE)
    assert Player((head, body[:9], "reset"), (head, body)).play(script.result("job_1")) == DONE


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (bad(401), Unauthorized),
        (bad(403), Unauthorized),
        (bad(404), TaskNotFound),
        (bad(429, x_should_retry="false"), TooManyRequests),
        (bad(400), Refused),
        (bad(500), Refused),
        ((Head(200, {}), b"<html>"), Refused),
        ((Head(404, {}), b"<html>"), TaskNotFound),
    ],
)
def test_what_does_not_pass_is_told_at_once(answer: Any, error: type[Exception]) -> None:
    player = Player(answer)
    with pytest.raises(error):
        player.play(script.status("job_1"))
    assert player.pauses == []


def test_a_gateway_that_is_away_is_given_up_after_ever_longer_pauses() -> None:
    player = Player(*[(NOBODY,)] * TRIES)
    with pytest.raises(Unreachable, match="nobody is there"):
        player.play(script.status("job_1"))
    assert len(player.pauses) == TRIES - 1
    assert player.pauses[-1] > player.pauses[0]


def test_ids_are_quoted() -> None:
    player = Player(bad(404))
    with pytest.raises(TaskNotFound):
        player.play(script.status("../v1/jobs"))
    assert player.asks[0].path == "/status/..%2Fv1%2Fjobs"


def event(id: str, **fields: Any) -> bytes:
    return f"id: {id}\ndata: {json.dumps(fields)}\n\n".encode()


TOLD = [
    event("0-0", status="queued", message="…"),
    event("1-0", status="processing", message="…"),
    event("1-2", status="processing", message="…", token="Hel"),
    event("1-3", status="processing", message="…", token="lo"),
    event("end", status="completed", message="…", result="Hello", metrics={}),
]


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_stream_is_read_to_its_end_however_it_is_cut_into_pieces(size: int) -> None:
    player = Player((Head(200, {}), *pieces(b"retry: 1000\n\n: ping\n\n" + b"".join(TOLD), size)))
    player.play(script.followed("job_1", None))
    assert [told.get("token") for told in player.events] == [None, None, "Hel", "lo", None]
    assert player.events[-1]["result"] == "Hello"
    assert player.pauses == []


@pytest.mark.parametrize("reason", ["reset by peer", b""])
def test_a_stream_goes_on_where_it_was_cut(reason: str | bytes) -> None:
    player = Player(
        (Head(200, {}), *TOLD[:3], TOLD[3][:-5], reason),
        (NOBODY,),
        bad(503, retry_after="2"),
        (Head(200, {}), *TOLD[3:]),
    )
    player.play(script.followed("job_1", None))
    assert "".join(told.get("token", "") for told in player.events) == "Hello"
    assert [dict(ask.headers) for ask in player.asks] == [{}] + [{"last-event-id": "1-2"}] * 3
    assert len(player.pauses) == 3
    assert player.pauses[-1] >= 2


def test_a_stream_that_only_ever_breaks_off_is_given_up() -> None:
    with pytest.raises(Unreachable, match="broke off"):
        Player(*[(Head(200, {}),)] * TRIES).play(script.followed("job_1", None))


def test_a_stream_tells_the_failure_and_raises_it() -> None:
    player = Player((Head(200, {}), event("end", status="error", error_message="Gone.", error_type="JobCancelled")))
    with pytest.raises(TaskFailed, match="Gone") as failed:
        player.play(script.followed("job_1", None))
    assert failed.value.task_id == "job_1"
    assert player.events[-1]["status"] == "error"


def test_a_stream_is_read_for_no_longer_than_is_wanted() -> None:
    with pytest.raises(StillRunning):
        Player().play(script.followed("job_1", -1.0))


@pytest.mark.parametrize("status", [401, 404])
def test_a_stream_that_is_refused_is_not_asked_for_again(status: int) -> None:
    player = Player(bad(status))
    with pytest.raises(Refused):
        player.play(script.followed("job_1", None))
    assert player.pauses == []
