"""The story of a request: who is tried, what the caller gets, and the one outcome that is written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from penstock.core import metering
from penstock.core.gateway import Gateway
from penstock.core.limits.limiter import Limiter
from penstock.core.limits.terms import Plan
from penstock.core.metering import Ledger
from penstock.core.ports import Answer, Call
from penstock.core.prices import Catalog
from penstock.core.registry import ModelRegistry
from penstock.core.routing.router import Router
from penstock.errors import (
    InvalidRequest,
    ModelNotFound,
    NoDeploymentAvailable,
    NoTimeLeft,
    PenstockError,
    PermissionDenied,
    StateError,
    UpstreamBusy,
    UpstreamProtocolError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from penstock.schema.key import Caller
from penstock.schema.model import Deployment
from penstock.schema.outcome import Outcome, Usage
from penstock.schema.request import CHAT, EMBEDDINGS, Request
from tests.unit.memory import DOWN, MemoryStore

USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
ANSWER = {"id": "1", "model": "up", "choices": [{"index": 0, "message": {"content": "Hi"}}], "usage": USAGE}
CHUNKS = [
    {"model": "up", "choices": [{"index": 0, "delta": {"content": "Hi"}}]},
    {"model": "up", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {"model": "up", "choices": [], "usage": USAGE},
]
Step = dict[str, Any] | Exception | asyncio.Event


class Scripted:
    """A connection that answers, fails or waits, step by step."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.calls: list[Call] = []
        self.closed = False

    async def complete(self, call: Call) -> Answer:
        self.calls.append(call)
        for step in self.steps:
            document = await self._take(step)
            if document is not None:
                call.dropped = ("rid",)
                return Answer(json.dumps(document).encode(), dict(document))
        raise AssertionError("the script is over")

    async def stream(self, call: Call) -> AsyncGenerator[list[bytes], None]:
        self.calls.append(call)
        call.dropped = ("rid",)
        call.streamed = True
        try:
            for step in self.steps:
                document = await self._take(step)
                if document is not None:
                    call.payloads += 1
                    yield [json.dumps(document).encode()]
        finally:
            self.closed = True

    async def _take(self, step: Step) -> dict[str, Any] | None:
        if isinstance(step, Exception):
            raise step
        if isinstance(step, asyncio.Event):
            await step.wait()
            return None
        return step


class Room:
    """A gateway over scripted connections, and the outcomes that it writes."""

    def __init__(self, *connections: Scripted, attempts: int = 3) -> None:
        self.connections = {f"p{number}/m": each for number, each in enumerate(connections)}
        places = [
            Deployment(name, "m", name[:2], "openai", "up", "http://x", priority=number)
            for number, name in enumerate(self.connections)
        ]
        registry = ModelRegistry(MemoryStore(), places, [], lambda place: self.connections[place.id])  # type: ignore[arg-type,return-value]
        self.told: list[Outcome] = []
        self.ledger = Ledger(MemoryStore(), tell=self.told.extend)  # type: ignore[arg-type]
        limiter = Limiter(MemoryStore(), Plan())  # type: ignore[arg-type]
        self.gateway = Gateway(registry, Router(), self.ledger, limiter, Catalog(), attempts=attempts)

    async def outcome(self) -> Outcome:
        """The one outcome."""
        await self.ledger.close()
        (found,) = self.told
        return found


def request(*, seconds: float = 20, caller: Caller | None = None, **body: Any) -> Request:
    deadline = asyncio.get_running_loop().time() + seconds
    endpoint, model = body.pop("endpoint", CHAT), body.pop("model", "m")
    caller = caller or Caller("key_1", owner="ann")
    stream = body.get("stream") is True
    return Request("req_1", endpoint, model, {"model": model, **body}, stream, caller, deadline)


async def complete(room: Room, asked: Request) -> Any:
    return json.loads(await room.gateway.complete(asked))


async def stream(room: Room, asked: Request) -> list[Any]:
    return [json.loads(payload) async for batch in room.gateway.stream(asked) for payload in batch]


Run = Callable[[Room, Request], Any]
both = pytest.mark.parametrize("run", [complete, stream])


def steps(run: Run) -> list[Step]:
    """What a good connection does for either kind of call."""
    return [ANSWER] if run is complete else list(CHUNKS)


# A good day


@both
async def test_an_answer_comes_under_the_public_name_and_is_settled(run: Run) -> None:
    room = Room(Scripted(*steps(run)))
    asked = request(stream=run is stream)
    answer = await run(room, asked)
    for document in answer if run is stream else [answer]:
        assert document["model"] == "m"
    outcome = await room.outcome()
    assert (outcome.ended, outcome.status, outcome.code, outcome.attempts) == ("ok", 200, "", 1)
    assert (outcome.request_id, outcome.key_id, outcome.owner) == ("req_1", "key_1", "ann")
    assert (outcome.model, outcome.deployment, outcome.endpoint) == ("m", "p0/m", CHAT)
    assert (outcome.usage, outcome.usage_reported) == (Usage(7, 2), True)
    assert outcome.stream is (run is stream)
    assert (outcome.ttft is not None) is (run is stream)
    assert outcome.duration > 0
    assert asked.dropped == ("rid",)
    assert asked.deployment == "p0/m"


async def test_embeddings_have_data_instead_of_choices() -> None:
    answer = {"object": "list", "model": "m", "data": [{"embedding": [1.0]}]}
    assert await complete(Room(Scripted(answer)), request(endpoint=EMBEDDINGS)) == answer


# Failures


@both
@pytest.mark.parametrize("failure", [UpstreamUnavailable("x"), UpstreamBusy("x"), UpstreamTimeout("x")], ids=repr)
async def test_a_failure_moves_the_request_on(run: Run, failure: Exception) -> None:
    room = Room(Scripted(failure), Scripted(*steps(run)))
    asked = request()
    assert await run(room, asked)
    assert [(attempt.deployment, attempt.message) for attempt in asked.attempts] == [("p0/m", "x")]
    outcome = await room.outcome()
    assert (outcome.ended, outcome.attempts, outcome.deployment) == ("ok", 2, "p1/m")


@both
async def test_an_answer_without_an_answer_in_it_is_a_failure(run: Run) -> None:
    empty = Scripted({"model": "up", "choices": []}) if run is complete else Scripted()
    room = Room(empty, Scripted(*steps(run)))
    assert await run(room, request())
    assert (await room.outcome()).deployment == "p1/m"


@both
async def test_no_more_deployments_are_tried_than_allowed(run: Run) -> None:
    room = Room(*(Scripted(UpstreamUnavailable("x")) for _ in range(5)), attempts=3)
    with pytest.raises(NoDeploymentAvailable) as error:
        await run(room, request())
    assert [attempt["deployment"] for attempt in error.value.attempts] == ["p0/m", "p1/m", "p2/m"]
    assert "p0/m: upstream_unavailable; p1/m: upstream_unavailable" in error.value.message
    outcome = await room.outcome()
    assert (outcome.ended, outcome.status, outcome.code, outcome.attempts) == ("failed", 503, "provider_unavailable", 3)


@both
async def test_the_only_deployments_own_error_is_told(run: Run) -> None:
    failure = UpstreamBusy("full", retry_after=7)
    with pytest.raises(UpstreamBusy) as error:
        await run(Room(Scripted(failure)), request())
    assert error.value is failure


@both
async def test_when_all_failed_the_caller_is_told_when_the_first_of_them_may_be_asked_again(run: Run) -> None:
    busy = [Scripted(UpstreamBusy("full", retry_after=seconds)) for seconds in (7, 30)]
    with pytest.raises(NoDeploymentAvailable) as error:
        await run(Room(*busy, Scripted(UpstreamUnavailable("x"))), request())
    assert error.value.retry_after == 7


@both
async def test_what_is_the_callers_fault_is_told_at_once(run: Run) -> None:
    second = Scripted(*steps(run))
    room = Room(Scripted(UpstreamRefused("no", status=422)), second)
    with pytest.raises(UpstreamRefused):
        await run(room, request())
    assert not second.calls
    outcome = await room.outcome()
    assert (outcome.status, outcome.attempts) == (422, 1)


@both
async def test_past_the_deadline_nobody_else_is_tried(run: Run) -> None:
    second = Scripted(*steps(run))
    with pytest.raises(UpstreamTimeout):
        await run(Room(Scripted(UpstreamTimeout("late")), second), request(seconds=-1))
    assert not second.calls


@both
async def test_when_the_time_is_over_in_a_later_attempt_all_of_them_are_told(run: Run) -> None:
    late, asked = asyncio.Event(), request(seconds=0.05)
    asyncio.get_running_loop().call_at(asked.deadline, late.set)
    third = Scripted(*steps(run))
    room = Room(Scripted(UpstreamBusy("full", retry_after=7)), Scripted(late, UpstreamTimeout("late")), third)
    with pytest.raises(NoTimeLeft) as error:
        await run(room, asked)
    assert (error.value.status, error.value.retry_after) == (504, 7)
    assert [attempt["code"] for attempt in error.value.attempts] == ["upstream_busy", "upstream_timeout"]
    assert not third.calls


@both
async def test_every_attempt_has_the_same_deadline(run: Run) -> None:
    first, second = Scripted(UpstreamUnavailable("x")), Scripted(*steps(run))
    asked = request()
    await run(Room(first, second), asked)
    assert [call.deadline for call in (*first.calls, *second.calls)] == [asked.deadline] * 2


async def test_a_stream_that_has_begun_fails_and_is_not_tried_elsewhere() -> None:
    second = Scripted(*CHUNKS)
    room = Room(Scripted(CHUNKS[0], UpstreamProtocolError("cut")), second)
    got = []
    with pytest.raises(UpstreamProtocolError, match="cut"):  # noqa: PT012 - what came before it counts too
        async for batch in room.gateway.stream(request(stream=True)):
            got += batch
    assert len(got) == 1
    assert not second.calls
    outcome = await room.outcome()
    assert (outcome.ended, outcome.status, outcome.attempts) == ("failed", 502, 1)
    assert (outcome.usage.completion_tokens, outcome.usage_reported) == (1, False)


@both
async def test_our_own_mistake_is_an_outcome_too(run: Run) -> None:
    room = Room(Scripted(RuntimeError("a defect")), Scripted(*steps(run)))
    with pytest.raises(RuntimeError):
        await run(room, request())
    outcome = await room.outcome()
    assert (outcome.ended, outcome.status, outcome.code) == ("failed", 500, "internal_error")


# Leaving


async def test_a_stream_that_is_closed_is_cancelled_upstream_and_settled() -> None:
    connection = Scripted(CHUNKS[0], asyncio.Event())
    room = Room(connection)
    open_stream = room.gateway.stream(request(stream=True))
    await anext(open_stream)
    await open_stream.aclose()
    assert connection.closed
    outcome = await room.outcome()
    assert (outcome.ended, outcome.status, outcome.code) == ("cancelled", 499, "client_closed_request")
    assert outcome.usage.completion_tokens == 1


@both
async def test_a_cancelled_call_is_an_outcome(run: Run) -> None:
    connection = Scripted(asyncio.Event())
    room = Room(connection)
    task = asyncio.ensure_future(run(room, request()))
    while not connection.calls:  # noqa: ASYNC110 - it is a turn of the loop away
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await room.outcome()).ended == "cancelled"


# Who may not


REFUSED: list[tuple[dict[str, Any], type[PenstockError]]] = [
    ({"model": "other"}, ModelNotFound),
    ({"caller": Caller("key_1", models=("gpt-*",))}, PermissionDenied),
    ({"caller": Caller("key_1", providers=("other",))}, ModelNotFound),
]


@both
@pytest.mark.parametrize(
    ("fields", "kind"), REFUSED, ids=["unknown model", "not this key's model", "not at its provider"]
)
async def test_a_request_that_is_not_admitted_reaches_nobody(
    run: Run, fields: dict[str, Any], kind: type[PenstockError]
) -> None:
    connection = Scripted(*steps(run))
    room = Room(connection)
    with pytest.raises(kind) as error:
        await run(room, request(**fields))
    assert error.value.param == "model"
    assert not connection.calls
    outcome = await room.outcome()
    assert (outcome.ended, outcome.status, outcome.code) == ("failed", kind.status, kind.code)


@both
async def test_a_mistake_that_only_the_provider_sees_is_told_at_once(run: Run) -> None:
    second = Scripted(*steps(run))
    with pytest.raises(InvalidRequest):
        await run(Room(Scripted(InvalidRequest("seed: is too large")), second), request())
    assert not second.calls


@both
async def test_while_the_ledger_is_full_no_work_is_taken(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metering, "CAPACITY", 1)
    store = MemoryStore()
    store.failure = DOWN
    connection = Scripted(*steps(run))
    room = Room(connection)
    room.gateway.ledger = Ledger(store)  # type: ignore[arg-type]
    await run(room, request())
    with pytest.raises(StateError):
        await run(room, request())
    assert len(connection.calls) == 1
    store.failure = None
    await room.gateway.ledger.close()
