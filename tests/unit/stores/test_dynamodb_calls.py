"""Calls to DynamoDB: what is tried again, for how long, and what a person is told when it is of no use."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from penstock.errors import StateConflict, StateError, UpstreamTimeout, UpstreamUnavailable
from penstock.outbound import HttpClient
from penstock.stores import dynamodb
from penstock.stores.dynamodb import DynamoStore, connection
from tests.laws.stores.records import a_job, a_key, an_outcome
from tests.unit.stores.wire import Said, Wire, refuses

ITEM = (
    200,
    {"Item": {"id": {"S": "registry"}, "version": {"N": "3"}, "cards": {"S": "[]"}, "refreshed_at": {"N": "5"}}},
)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
async def store(wire: Wire) -> DynamoStore:
    store = dynamodb.connect("dynamodb://penstock?region=eu-west-1", wire)  # type: ignore[arg-type]
    await store.open()
    wire.asked.clear()
    return store


@pytest.mark.parametrize(
    "trouble",
    [
        (500, {}),
        (503, {}),
        (502, b"<html>bad gateway</html>"),
        (429, b""),
        refuses("ThrottlingException"),
        refuses("ProvisionedThroughputExceededException"),
        refuses("RequestLimitExceeded"),
        refuses("TransactionInProgressException"),
        UpstreamTimeout("took too long"),
        UpstreamUnavailable("connection refused"),
    ],
    ids=str,
)
async def test_what_passes_is_tried_again(store: DynamoStore, wire: Wire, trouble: Said) -> None:
    wire.answers = [trouble, trouble, ITEM]
    assert (await store.load_registry()).version == 3
    assert wire.actions == ["GetItem"] * 3


async def test_a_conflict_of_two_transactions_is_tried_again(store: DynamoStore, wire: Wire) -> None:
    reasons = [{"Code": "TransactionConflict", "Message": "ongoing"}, {"Code": "None"}]
    wire.answers = [refuses("TransactionCanceledException", CancellationReasons=reasons), (200, {})]
    await store.create_key(a_key())
    assert wire.actions == ["TransactWriteItems"] * 2


async def test_what_does_not_pass_is_given_up_after_six_attempts(store: DynamoStore, wire: Wire) -> None:
    wire.answers = [(503, {})]
    with pytest.raises(StateError, match="GetItem on penstock-registry"):
        await store.load_registry()
    assert len(wire.asked) == 6


async def test_a_server_that_never_answers_is_given_up_within_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BUDGET", 0.3)
    monkeypatch.setattr(connection, "OPENING", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        client = HttpClient()
        port = deaf.getsockname()[1]
        store = dynamodb.connect(f"dynamodb://penstock?endpoint=http://127.0.0.1:{port}", client)
        began = time.monotonic()
        with pytest.raises(StateError, match=f"no answer from http://127.0.0.1:{port}"):
            await store.open()
        assert time.monotonic() - began < 2
        await client.aclose()


async def test_a_server_that_is_not_there_is_named_with_the_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    store = dynamodb.connect(f"dynamodb://penstock?endpoint=http://127.0.0.1:{port}", None)
    with pytest.raises(StateError, match=rf"no answer from http://127.0.0.1:{port}: .*refused.*; see that it runs"):
        await store.open()


async def test_the_budget_holds_for_all_attempts_together(
    store: DynamoStore, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store._db, "_budget", 0.05)
    monkeypatch.setattr(connection, "PAUSES", (10.0,) * 5)
    wire.answers = [refuses("ThrottlingException", "slow down")]
    with pytest.raises(StateError, match=r"refused it \(Throttled\): slow down"):
        await store.load_registry()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            refuses("ResourceNotFoundException"),
            r"no such table at DynamoDB in eu-west-1.*infra/state\.yaml.*`sam deploy`",
        ),
        (refuses("AccessDeniedException", "not authorized"), "does not allow it; add it to the policy.*not authorized"),
        (refuses("UnrecognizedClientException", "invalid token"), "credentials are missing or refused.*invalid token"),
        (refuses("ValidationException", "Item size has exceeded"), r"refused it \(ValidationException\): Item size"),
        ((404, b"<html>nginx</html>"), "is not DynamoDB; correct the endpoint"),
        ((200, b"<html>hello</html>"), "is not DynamoDB; correct the endpoint"),
    ],
)
async def test_what_is_of_no_use_is_told_at_once(store: DynamoStore, wire: Wire, said: Said, told: str) -> None:
    wire.answers = [said]
    with pytest.raises(StateError, match=told) as refused:
        await store.load_registry()
    assert "GetItem on penstock-registry" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(wire.asked) == 1


@pytest.mark.parametrize(
    ("write", "refused"),
    [
        (
            lambda store: store.create_key(a_key()),
            refuses(
                "TransactionCanceledException",
                CancellationReasons=[{"Code": "None"}, {"Code": "ConditionalCheckFailed", "Message": "failed"}],
            ),
        ),
        (lambda store: store.create_job(a_job()), refuses("ConditionalCheckFailedException")),
        (lambda store: store.publish_registry([], expected=1, at=5.0), refuses("ConditionalCheckFailedException")),
    ],
    ids=["create_key", "create_job", "publish_registry"],
)
async def test_a_condition_that_did_not_hold_is_a_conflict_and_not_tried_again(
    store: DynamoStore, wire: Wire, write: Callable[[DynamoStore], Awaitable[object]], refused: Said
) -> None:
    wire.answers = [refused, (200, {})]
    with pytest.raises(StateConflict):
        await write(store)
    assert wire.actions[1:] == ["GetItem"], "it looked whether it was this very call that wrote"


async def test_what_a_batch_leaves_undone_is_sent_again(store: DynamoStore, wire: Wire) -> None:
    one, other = an_outcome(), an_outcome()
    put = {"PutRequest": {"Item": {"request_id": {"S": other.request_id}}}}
    wire.answers = [
        (200, {"Responses": {}, "UnprocessedKeys": {"penstock-outcomes": {"Keys": [{"request_id": {"S": "x"}}]}}}),
        (200, {"Responses": {"penstock-outcomes": []}, "UnprocessedKeys": {}}),
        (200, {"UnprocessedItems": {"penstock-outcomes": [put]}}),
        (200, {"UnprocessedItems": {}}),
    ]
    assert await store.record_outcomes([one, other]) == 2
    assert wire.actions == ["BatchGetItem", "BatchGetItem", "BatchWriteItem", "BatchWriteItem"]
    assert wire.asked[3][1] == {"RequestItems": {"penstock-outcomes": [put]}}


async def test_a_batch_that_is_never_done_is_given_up(store: DynamoStore, wire: Wire) -> None:
    wire.answers = [(200, {"Responses": {}, "UnprocessedKeys": {"penstock-outcomes": {"Keys": []}}})]
    with pytest.raises(StateError, match="left a part of the batch undone"):
        await store.record_outcomes([an_outcome(), an_outcome()])


async def test_bodies_are_never_logged(store: DynamoStore, wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await store.create_job(a_job(body=b"a canary prompt", error="a canary error"))
    assert "canary" not in caplog.text


async def test_a_call_that_is_cancelled_ends_at_once(store: DynamoStore, wire: Wire) -> None:
    wire.answers = [(503, {})]
    calling = asyncio.ensure_future(store.load_registry())
    await asyncio.sleep(0)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
