"""The outcome ledger in DynamoDB.

An outcome's partition is its request id, so that writes spread evenly and a repeat meets the item that is there. Two
indexes list the newest, of all and of one key. One partition of an index takes a thousand writes a second, so each
index has ``PARTS`` of them, and a listing asks them all and merges. Listings may lag behind by a moment.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from penstock.core.traffic import Counts, Tally
from penstock.core.usage import DAY, Sums, counts_of, name_day
from penstock.errors import StateConflict, StateError
from penstock.schema.outcome import Failure, Outcome, Usage, failure
from penstock.schema.traffic import Traffic
from penstock.schema.usage import UsageLine
from penstock.stores._items import Item, dump, load

if TYPE_CHECKING:
    from penstock.stores.dynamodb.connection import Connection

VERSION = 1
PARTS = 8
RETENTION = 93 * 86400.0  # seconds after its start that an outcome is kept: GET /v1/usage tells up to 92 days
READS = 100  # items in one BatchGetItem
WRITES = 25  # items in one BatchWriteItem


def _index(name: str, part: str) -> dict[str, Any]:
    keys = [{"AttributeName": part, "KeyType": "HASH"}, {"AttributeName": "started_at", "KeyType": "RANGE"}]
    return {"IndexName": name, "KeySchema": keys, "Projection": {"ProjectionType": "ALL"}}


TABLE: dict[str, Any] = {
    "AttributeDefinitions": [
        {"AttributeName": "request_id", "AttributeType": "S"},
        {"AttributeName": "time_part", "AttributeType": "S"},
        {"AttributeName": "key_part", "AttributeType": "S"},
        {"AttributeName": "started_at", "AttributeType": "N"},
    ],
    "KeySchema": [{"AttributeName": "request_id", "KeyType": "HASH"}],
    "GlobalSecondaryIndexes": [_index("by_time", "time_part"), _index("by_key", "key_part")],
}

SUMMED = (
    *("started_at", "key_id", "owner", "model", "ended"),
    *("prompt_tokens", "cached_tokens", "completion_tokens", "cost_nanos"),
)

COUNTED = (
    *("started_at", "deployment", "model", "ended", "failures", "duration", "ttft"),
    *("prompt_tokens", "completion_tokens", "cost_nanos"),
)

OUTCOME_IS_NEW = "attribute_not_exists(request_id)"
OUTCOME_IS_ALIVE = "expires > :now"


@dataclass(frozen=True, slots=True)
class Counted:
    """What is counted of an outcome, beside its tokens."""

    deployment: str
    model: str
    ended: str
    duration: float
    ttft: float | None = None
    cost_nanos: int | None = None


class Outcomes:
    """The store's part that keeps the ledger."""

    _db: Connection

    async def record_outcomes(self, outcomes: Sequence[Outcome]) -> int:
        """Append to the ledger, once a request id; answers how many were new. A repeat changes nothing."""
        distinct = list({outcome.request_id: outcome for outcome in reversed(outcomes)}.values())
        if len(distinct) == 1:
            return await self._record_one(distinct[0])
        return sum([await self._record_many(distinct[at : at + READS]) for at in range(0, len(distinct), READS)])

    async def list_outcomes(self, *, key_id: str | None = None, since: float = 0.0, limit: int = 100) -> list[Outcome]:
        """Newest first, at most ``limit``, those that started at or after ``since``."""
        if limit < 1:
            return []
        found = await asyncio.gather(*(self._newest(*partition, since, limit) for partition in _partitions(key_id)))
        merged = heapq.merge(*found, key=lambda outcome: outcome.started_at, reverse=True)
        return list(islice(merged, limit))

    async def sum_usage(self, *, since: float, until: float, key_id: str | None = None) -> list[UsageLine]:
        """The outcomes that started at or after ``since`` and before ``until``, summed up as their pages come."""
        sums = Sums()
        if since < until:
            try:
                async with asyncio.TaskGroup() as reading:  # the first failure ends the others' work
                    for partition in _partitions(key_id):
                        reading.create_task(self._add_up(sums, partition, since, until))
            except* StateError as failures:
                raise failures.exceptions[0] from None
        return sums.lines()

    async def sum_traffic(self, *, since: float, until: float, limit: int) -> Traffic:
        """The outcomes that started at or after ``since`` and before ``until``, by who was tried: the newest of them.

        Each part of the index is read back to ``since``, or as far as its share of ``limit`` goes; what lies before the
        nearest of those ends is left out, so that the time that is told of is told of whole.
        """
        shares = [max(1, limit // PARTS)] * PARTS
        parts = await asyncio.gather(*(self._counted(part, since, until, share) for part, share in enumerate(shares)))
        since = max(cut for _, cut in parts)
        tally = Tally()
        for item in (item for found, _ in parts for item in found):
            if since <= float(item["started_at"]["N"]) < until:
                outcome, usage = load(Counted, item), load(Usage, item)
                first = (0, 0.0) if outcome.ttft is None else (1, outcome.ttft)
                tokens = (usage.prompt_tokens, usage.completion_tokens)
                counts = Counts(1, outcome.duration, *first, *tokens, (outcome.cost_nanos or 0) / 1e9)
                tally.add(outcome.deployment, outcome.model, outcome.ended, _failures(item), counts)
        return tally.traffic(since, until)

    async def prune_outcomes(self, before: float) -> int:
        """Nothing: the table's own expiry forgets what is older than ``RETENTION``."""
        return 0

    async def _record_one(self, outcome: Outcome) -> int:
        """One conditional write: exact, and one round trip, for a Lambda function that ends each request with it."""
        try:
            await self._db.put("outcomes", _dump(outcome), OUTCOME_IS_NEW)
        except StateConflict:
            return 0
        return 1

    async def _record_many(self, outcomes: Sequence[Outcome]) -> int:
        """Batches cannot be conditional: look first, then write what is missing.

        Two processes that write the same outcomes at once may both count them; the ledger holds them once all the same.
        """
        table = self._db.table("outcomes")
        keys = [{"request_id": {"S": outcome.request_id}} for outcome in outcomes]
        wanted = {table: {"Keys": keys, "ProjectionExpression": "request_id", "ConsistentRead": True}}
        answers = await self._db.batch("BatchGetItem", wanted, "UnprocessedKeys")
        known = {item["request_id"]["S"] for answer in answers for item in answer["Responses"].get(table, ())}
        puts = [{"PutRequest": {"Item": _dump(outcome)}} for outcome in outcomes if outcome.request_id not in known]
        slices = [puts[at : at + WRITES] for at in range(0, len(puts), WRITES)]
        await asyncio.gather(*(self._db.batch("BatchWriteItem", {table: part}, "UnprocessedItems") for part in slices))
        return len(puts)

    async def _newest(self, index: str, attribute: str, part: str, since: float, limit: int) -> list[Outcome]:
        query = {
            "TableName": self._db.table("outcomes"),
            "IndexName": index,
            "KeyConditionExpression": f"{attribute} = :part AND started_at >= :since",
            "FilterExpression": OUTCOME_IS_ALIVE,
            "ExpressionAttributeValues": dump({":part": part, ":since": since, ":now": self._db.clock()}),
            "ScanIndexForward": False,
            "Limit": limit,
        }
        found: list[Outcome] = []
        async for page in self._db.pages("Query", query):
            found += map(_load, page)
            if len(found) >= limit:
                break
        return found[:limit]

    async def _counted(self, part: int, since: float, until: float, limit: int) -> tuple[list[Item], float]:
        """The newest of a part, and where those begin that were left out: ``since`` if none was."""
        query = {
            "TableName": self._db.table("outcomes"),
            "IndexName": "by_time",
            "KeyConditionExpression": "time_part = :part AND started_at BETWEEN :since AND :until",
            "ExpressionAttributeValues": dump({":part": str(part), ":since": since, ":until": until}),
            "ExpressionAttributeNames": {f"#{name}": name for name in COUNTED},
            "ProjectionExpression": ", ".join(f"#{name}" for name in COUNTED),
            "ScanIndexForward": False,
            "Limit": limit + 1,
        }
        found: list[Item] = []
        async for page in self._db.pages("Query", query):
            found += page
            if len(found) > limit:
                return found, math.nextafter(float(found[limit]["started_at"]["N"]), math.inf)
        return found, since

    async def _add_up(self, sums: Sums, partition: tuple[str, str, str], since: float, until: float) -> None:
        index, attribute, part = partition
        query = {
            "TableName": self._db.table("outcomes"),
            "IndexName": index,
            "KeyConditionExpression": f"{attribute} = :part AND started_at BETWEEN :since AND :until",
            "FilterExpression": OUTCOME_IS_ALIVE,
            "ExpressionAttributeValues": dump(
                {":part": part, ":since": since, ":until": until, ":now": self._db.clock()}
            ),
            "ExpressionAttributeNames": {f"#{name}": name for name in SUMMED},
            "ProjectionExpression": ", ".join(f"#{name}" for name in SUMMED),
        }
        async for page in self._db.pages("Query", query):
            for item in page:
                started_at = float(item["started_at"]["N"])
                if started_at < until:  # BETWEEN has both of its ends in it
                    group = (item["key_id"]["S"], item["owner"]["S"], item["model"]["S"])
                    cost = int(item["cost_nanos"]["N"]) if "cost_nanos" in item else None
                    counts = counts_of(item["ended"]["S"], load(Usage, item), cost)
                    sums.add((name_day(int(started_at) // DAY), *group), counts)


def _partitions(key_id: str | None) -> list[tuple[str, str, str]]:
    """Index, attribute and value of each partition that lists the outcomes of a key, or of all."""
    if key_id is None:
        return [("by_time", "time_part", str(part)) for part in range(PARTS)]
    return [("by_key", "key_part", f"{key_id}#{part}") for part in range(PARTS)]


def _dump(outcome: Outcome) -> Item:
    part = zlib.crc32(outcome.request_id.encode()) % PARTS
    usage = outcome.usage
    return dump(
        {
            "request_id": outcome.request_id,
            "v": VERSION,
            "time_part": str(part),
            "key_part": f"{outcome.key_id}#{part}",
            "expires": int(outcome.started_at + RETENTION),
            "started_at": outcome.started_at,
            "duration": outcome.duration,
            "key_id": outcome.key_id,
            "owner": outcome.owner,
            "endpoint": outcome.endpoint,
            "model": outcome.model,
            "deployment": outcome.deployment,
            "ended": outcome.ended,
            "status": outcome.status,
            "code": outcome.code,
            "stream": outcome.stream,
            "attempts": outcome.attempts,
            "ttft": outcome.ttft,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "cached_tokens": usage.cached_tokens,
            "usage_reported": outcome.usage_reported,
            "cost_nanos": outcome.cost_nanos,
            "failures": tuple(map(Failure.text, outcome.failures)) or None,
            "marks": outcome.marks or None,
        }
    )


def _load(item: Item) -> Outcome:
    outcome = load(Outcome, item)
    return replace(outcome, usage=load(Usage, item), failures=_failures(item))


def _failures(item: Item) -> tuple[Failure, ...]:
    return tuple(failure(line["S"]) for line in item["failures"]["L"]) if "failures" in item else ()
