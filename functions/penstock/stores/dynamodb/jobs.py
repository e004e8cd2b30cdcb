"""Jobs in DynamoDB: one item each.

An open job is in the index ``by_due``, in one of ``PARTS`` partitions, so that many may be accepted at once.
One that is parked is in ``by_model`` as well.
"""

from __future__ import annotations

import asyncio
import heapq
import zlib
from dataclasses import asdict
from itertools import chain
from math import ceil
from typing import TYPE_CHECKING, Any

from penstock.errors import RequestTooLarge, StateConflict
from penstock.schema.job import CANCELLED, COMPLETED, FAILED, PROCESSING, QUEUED, DueJob, Job
from penstock.stores._items import Item, dump, load

if TYPE_CHECKING:
    from penstock.stores.dynamodb.connection import Connection

VERSION = 1
PARTS = 4
LARGEST = 380_000
"""Bytes of a body or a result: an item may have 400 KiB, its names and numbers included."""
DUE, PARKED = "by_due", "by_model"
TABLE: dict[str, Any] = {
    "AttributeDefinitions": [
        {"AttributeName": "id", "AttributeType": "S"},
        {"AttributeName": "due_part", "AttributeType": "S"},
        {"AttributeName": "due_at", "AttributeType": "N"},
        {"AttributeName": "waits_for", "AttributeType": "S"},
        {"AttributeName": "turn", "AttributeType": "S"},
    ],
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
    "GlobalSecondaryIndexes": [
        {
            "IndexName": DUE,
            "KeySchema": [
                {"AttributeName": "due_part", "KeyType": "HASH"},
                {"AttributeName": "due_at", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["created_at", "priority", "status"]},
        },
        {
            "IndexName": PARKED,
            "KeySchema": [
                {"AttributeName": "waits_for", "KeyType": "HASH"},
                {"AttributeName": "turn", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["due_at", "created_at", "priority"]},
        },
    ],
}

JOB_IS_NEW = "attribute_not_exists(id)"
JOB_IS_AS_SEEN = "#status = :status AND claims = :claims AND lease_until = :until"
JOB_IS_TO_BE_HAD = "#status = :queued OR (#status = :processing AND lease_until <= :now)"
JOB_IS_HELD = "#status = :processing AND runner = :runner"
JOB_IS_OPEN = "#status IN (:queued, :processing)"
JOB_IS_DUE_AS_SEEN = "due_at = :seen"
TAKEN = (
    "REMOVE waits_for SET parked = :no, #status = :processing, runner = :runner, lease_until = :until,"
    " due_at = :until, started_at = if_not_exists(started_at, :now),"
    " attempts = attempts + :one, claims = claims + :one"
)
UNTRIED = "REMOVE started_at"
RENEWED = "SET lease_until = :until, due_at = :until"
RELEASED = (
    "SET #status = :queued, runner = :nobody, lease_until = :never, due_at = :due_at,"
    " attempts = attempts - :unbegun, failures = failures + :failed, parked = :parked"
)
WAITING = ", waits_for = model"
JOB_ENDED_UNTOLD = "attribute_exists(due_at) AND NOT #status IN (:queued, :processing)"
ENDED = (
    "SET parked = :no, #status = :status, body = :nothing, finished_at = :now, expires_at = :until, expires = :expires"
)
RESULT = "#result = :result, #error = :error"
IS_DUE_NO_MORE = "REMOVE due_at, due_part"
IS_TO_BE_TOLD = "due_at = :tell_at, due_part = :part"
TOLD = f"{IS_DUE_NO_MORE} SET notify = :no"
UNTOLD = 86_400
"""Seconds for which a job whose end is to be told is kept at least: DynamoDB would forget it untold."""
POSTPONED = "SET due_at = :due_at"
_STATUS = {"#status": "status"}
_OPEN = {":queued": QUEUED, ":processing": PROCESSING}
_OUTCOME = {"#result": "result", "#error": "error", **_STATUS}


class Jobs:
    """The store's part that keeps jobs."""

    _db: Connection

    async def create_job(self, job: Job) -> None:
        """Keep a new job; ``StateConflict`` if its id exists, ``RequestTooLarge`` if no item can hold it."""
        try:
            await self._db.put("jobs", _item(job), JOB_IS_NEW)
        except StateConflict:
            raise StateConflict(f"a job with the id {job.id} exists already") from None

    async def replace_job(self, job: Job, *, seen: Job) -> bool:
        """Put a job in the place of one with its id; ``False`` if that one is not as it was ``seen`` any more."""
        values = dump({":status": seen.status, ":claims": seen.claims, ":until": seen.lease_until})
        try:
            await self._db.put("jobs", _item(job), JOB_IS_AS_SEEN, values, names=_STATUS)
        except StateConflict:
            return False
        return True

    async def find_job(self, id: str) -> Job | None:
        """The job, or ``None``."""
        item = await self._db.get("jobs", _key(id))
        return load(Job, item) if item else None

    async def claim_job(self, id: str, runner: str, *, now: float, lease: float) -> Job | None:
        """Take a queued job, or one whose lease ran out, for ``lease`` seconds; ``None`` if it is not to be had."""
        values = {":runner": runner, ":now": now, ":until": now + lease, ":one": 1, ":part": _part(id), ":no": False}
        states = {":queued": QUEUED, ":processing": PROCESSING}
        change = f"{TAKEN}, due_part = :part"
        try:
            taken = await self._db.update(
                "jobs", _key(id), change, JOB_IS_TO_BE_HAD, values=dump(values | states), names=_STATUS
            )
        except StateConflict:
            return None
        return load(Job, taken)

    async def renew_job(self, id: str, runner: str, *, now: float, lease: float) -> bool:
        """Keep a job that one holds for ``lease`` seconds more; ``False`` if it ended or is another's now."""
        values = {":until": now + lease, ":runner": runner, ":processing": PROCESSING}
        return await self._change(id, RENEWED, JOB_IS_HELD, values, _STATUS)

    async def release_job(self, id: str, runner: str, *, due_at: float, failed: bool, parked: bool = False) -> bool:
        """Give a job back that one holds, as a try that ``failed`` or as one that did not begin."""
        values = {":queued": QUEUED, ":nobody": "", ":never": 0.0, ":due_at": due_at, ":part": _part(id)}
        counts = {":failed": int(failed), ":unbegun": int(not failed), ":parked": parked}
        held = {":runner": runner, ":processing": PROCESSING}
        untried = "" if failed else UNTRIED
        change = f"{untried} {RELEASED}, due_part = :part{WAITING if parked else ''}"
        return await self._change(id, change, JOB_IS_HELD, values | counts | held, _STATUS)

    async def finish_job(
        self,
        id: str,
        runner: str,
        *,
        now: float,
        expires: float,
        result: bytes = b"",
        error: str = "",
        tell_at: float | None = None,
    ) -> bool:
        """Write the end once, only by the runner that holds it; ``False`` if it ended already or is another's now.

        Raises ``RequestTooLarge`` if no item can hold the result.
        """
        _check(result, "answer")
        change, values = _end(id, FAILED if error else COMPLETED, now, expires, tell_at)
        outcome = {":result": result, ":error": error}
        held = {":runner": runner, ":processing": PROCESSING}
        return await self._change(id, f"{change}, {RESULT}", JOB_IS_HELD, values | outcome | held, _OUTCOME)

    async def cancel_job(self, id: str, *, now: float, expires: float, tell_at: float | None = None) -> bool:
        """End an open job without a result; ``False`` if it ended already, or there is none."""
        change, values = _end(id, CANCELLED, now, expires, tell_at)
        return await self._change(id, change, JOB_IS_OPEN, values | _OPEN, _STATUS)

    async def due_jobs(self, now: float, *, limit: int) -> list[DueJob]:
        """Jobs that somebody must be told of, the longest overdue first."""
        found = await asyncio.gather(*(self._due(str(part), now, limit) for part in range(PARTS)))
        return heapq.nsmallest(limit, chain(*found), key=lambda job: job.due_at)

    async def parked_jobs(self, model: str, *, limit: int) -> list[DueJob]:
        """The jobs that wait for a model: the highest priority first, among equals the oldest."""
        answer = await self._db.call(
            "Query",
            {
                "TableName": self._db.table("jobs"),
                "IndexName": PARKED,
                "KeyConditionExpression": "waits_for = :model",
                "ExpressionAttributeValues": dump({":model": model}),
                "Limit": limit,
            },
        )
        return [_due_job(item) for item in answer["Items"]]

    async def postpone_job(self, id: str, *, seen: float, due_at: float) -> bool:
        """Say when a job is due again; ``False`` if it is not due as it was ``seen`` any more."""
        return await self._change(id, POSTPONED, JOB_IS_DUE_AS_SEEN, {":seen": seen, ":due_at": due_at}, {})

    async def told_job(self, id: str) -> bool:
        """Make a job that has ended due no more; ``False`` if it is open, not due, or there is none."""
        return await self._change(id, TOLD, JOB_ENDED_UNTOLD, {":no": False} | _OPEN, _STATUS)

    async def prune_jobs(self, now: float) -> int:
        """Nothing: the table's own TTL forgets them."""
        return 0

    async def _change(
        self, id: str, change: str, condition: str, values: dict[str, Any], names: dict[str, str]
    ) -> bool:
        try:
            await self._db.update("jobs", _key(id), change, condition, values=dump(values), names=names or None)
        except StateConflict:
            return False
        return True

    async def _due(self, part: str, now: float, limit: int) -> list[DueJob]:
        answer = await self._db.call(
            "Query",
            {
                "TableName": self._db.table("jobs"),
                "IndexName": DUE,
                "KeyConditionExpression": "due_part = :part AND due_at <= :now",
                "ExpressionAttributeValues": dump({":part": part, ":now": now}),
                "Limit": limit,
            },
        )
        return [_due_job(item) for item in answer["Items"]]


def _key(id: str) -> Item:
    return {"id": {"S": id}}


def _item(job: Job) -> Item:
    _check(job.body, "request")
    item = {**asdict(job), "v": VERSION, "turn": _turn(job)}
    item["expires"] = ceil(job.expires_at) if job.expires_at else None
    if job.due_at is not None:
        item["due_part"] = _part(job.id)
    if job.parked:
        item["waits_for"] = job.model
    return dump(item)


def _part(id: str) -> str:
    return str(zlib.crc32(id.encode()) % PARTS)


def _turn(job: Job) -> str:
    """What sorts jobs by priority, and then by age."""
    return f"{2**31 - job.priority:010d}/{job.created_at:020.6f}"


def _end(id: str, status: str, now: float, expires: float, tell_at: float | None) -> tuple[str, dict[str, Any]]:
    """What writes a job's end, and its values."""
    values = {
        ":status": status,
        ":nothing": b"",
        ":now": now,
        ":until": expires,
        ":expires": ceil(expires),
        ":no": False,
    }
    if tell_at is None:
        return f"{IS_DUE_NO_MORE}, waits_for {ENDED}", values
    told = {":tell_at": tell_at, ":part": _part(id), ":expires": ceil(max(expires, now + UNTOLD))}
    return f"REMOVE waits_for {ENDED}, {IS_TO_BE_TOLD}", values | told


def _check(document: bytes, what: str) -> None:
    if len(document) > LARGEST:
        raise RequestTooLarge(f"A job's {what} may have {LARGEST} bytes, and this one has {len(document)}.")


def _due_job(item: Item) -> DueJob:
    due_at, created_at = float(item["due_at"]["N"]), float(item["created_at"]["N"])
    status = item["status"]["S"] if "status" in item else QUEUED  # what is parked is
    return DueJob(item["id"]["S"], due_at, created_at, int(item["priority"]["N"]), status)
