"""How the sums over the ledger are made: a slice after the other in SQLite, a page after the other in DynamoDB."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from penstock.errors import StateError
from penstock.stores import dynamodb, sqlite
from penstock.stores.dynamodb import outcomes as in_dynamodb
from penstock.stores.sqlite import outcomes as in_sqlite
from tests.laws.stores.records import NOW, an_outcome
from tests.unit.stores.wire import Wire, refuses

ITEM = {
    "started_at": {"N": repr(NOW)},
    "key_id": {"S": "key_1"},
    "owner": {"S": "ada"},
    "model": {"S": "tiny"},
    "ended": {"S": "ok"},
    "prompt_tokens": {"N": "10"},
    "cached_tokens": {"N": "4"},
    "completion_tokens": {"N": "2"},
    "cost_nanos": {"N": "7"},
}


@pytest.mark.parametrize("reading", [1, 2, 3, 1000])
async def test_sqlite_counts_each_outcome_once_however_it_is_sliced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reading: int
) -> None:
    monkeypatch.setattr(in_sqlite, "READING", reading)
    store = sqlite.connect(f"sqlite:///{tmp_path}/state.db", None)
    await store.open()
    moments = [0, 0, 0, 0, 1, 1, 2, 5, 5, 5, 8]  # several at one moment, more than a slice holds
    await store.record_outcomes([an_outcome(started_at=NOW + moment, cost_nanos=1) for moment in moments])
    for since in range(-1, 10):
        for until in range(-1, 10):
            lines = await store.sum_usage(since=NOW + since, until=NOW + until)
            assert sum(line.requests for line in lines) == sum(since <= moment < until for moment in moments)
    last = math.nextafter(NOW + 8, math.inf)
    assert sum(line.cost_nanos for line in await store.sum_usage(since=0.0, until=last)) == len(moments)
    await store.close()


async def test_sqlite_lets_others_through_between_two_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_sqlite, "READING", 10)
    store = sqlite.connect(f"sqlite:///{tmp_path}/state.db", None)
    await store.open()
    await store.record_outcomes([an_outcome(started_at=NOW + number) for number in range(100)])
    turns = 0
    read = store._db.read

    async def counted(*args, **kwargs):  # type: ignore[no-untyped-def]
        nonlocal turns
        turns += 1
        return await read(*args, **kwargs)

    monkeypatch.setattr(store._db, "read", counted)
    await store.sum_usage(since=0.0, until=NOW + 1000)
    assert turns == 10
    await store.close()


async def asked_of_dynamodb(wire: Wire, **asked: str) -> tuple[list[int], Wire]:
    """The requests in each line, from a table that answers what is written down."""
    store = dynamodb.connect("dynamodb://penstock?endpoint=http://127.0.0.1:4566", wire)  # type: ignore[arg-type]
    wire.answers, prepared = [(200, {"Table": {"TableStatus": "ACTIVE"}})], wire.answers
    await store.open()
    wire.asked.clear()
    wire.answers = prepared
    lines = await store.sum_usage(since=NOW - 10, until=NOW + 10, key_id=asked.get("key_id"))
    return [line.requests for line in lines], wire


@pytest.mark.parametrize(
    ("asked", "index", "parts"),
    [
        ({}, "by_time", {str(part) for part in range(8)}),
        ({"key_id": "key_1"}, "by_key", {f"key_1#{part}" for part in range(8)}),
    ],
)
async def test_dynamodb_is_asked_for_every_partition_and_for_the_summed_attributes_alone(
    asked: dict[str, str], index: str, parts: set[str]
) -> None:
    requests, wire = await asked_of_dynamodb(Wire([(200, {"Items": [ITEM, ITEM]})]), **asked)
    assert requests == [16]
    assert wire.actions == ["Query"] * 8
    assert {query["IndexName"] for _, query in wire.asked} == {index}
    assert {query["ExpressionAttributeValues"][":part"]["S"] for _, query in wire.asked} == parts
    for _, query in wire.asked:
        names = [query["ExpressionAttributeNames"][name] for name in query["ProjectionExpression"].split(", ")]
        assert sorted(names) == sorted(ITEM)


async def test_dynamodb_is_read_to_the_last_page() -> None:
    more = {"Items": [ITEM], "LastEvaluatedKey": {"request_id": {"S": "req_1"}}}
    requests, wire = await asked_of_dynamodb(Wire([(200, more)] * 5 + [(200, {"Items": [ITEM]})]))
    assert requests == [13]
    assert len([query for _, query in wire.asked if "ExclusiveStartKey" in query]) == 5


async def test_an_outcome_at_the_very_end_belongs_to_the_next_span() -> None:
    late = ITEM | {"started_at": {"N": repr(NOW + 10)}}
    requests, _ = await asked_of_dynamodb(Wire([(200, {"Items": [ITEM, late]})]))
    assert requests == [in_dynamodb.PARTS]


async def test_a_partition_that_fails_is_told_as_the_stores_failure() -> None:
    with pytest.raises(StateError, match="Query on penstock-outcomes"):
        await asked_of_dynamodb(Wire([refuses("ValidationException", "no such index")]))
