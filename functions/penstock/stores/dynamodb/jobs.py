"""Jobs in DynamoDB: one item each."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from penstock.errors import StateConflict
from penstock.schema.job import COMPLETED, FAILED, PROCESSING, QUEUED, Job
from penstock.stores._items import Item, dump, load

if TYPE_CHECKING:
    from penstock.stores.dynamodb.connection import Connection

VERSION = 1
TABLE: dict[str, Any] = {
    "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
}

JOB_IS_NEW = "attribute_not_exists(id)"
JOB_IS_TO_BE_HAD = "#status = :queued OR (#status = :processing AND lease_until <= :now)"
JOB_IS_HELD = "#status = :processing AND runner = :runner"
TAKEN = "SET #status = :processing, runner = :runner, lease_until = :until, attempts = attempts + :one"
ENDED = "SET #status = :status, #result = :result, #error = :error, finished_at = :now"


class Jobs:
    """The store's part that keeps jobs."""

    _db: Connection

    async def create_job(self, job: Job) -> None:
        """Keep a new job; ``StateConflict`` if its id exists."""
        try:
            await self._db.put("jobs", dump({**asdict(job), "v": VERSION}), JOB_IS_NEW)
        except StateConflict:
            raise StateConflict(f"a job with the id {job.id} exists already") from None

    async def find_job(self, id: str) -> Job | None:
        """The job, or ``None``."""
        item = await self._db.get("jobs", _key(id))
        return load(Job, item) if item else None

    async def claim_job(self, id: str, runner: str, *, now: float, lease: float) -> Job | None:
        """Take a queued job, or one whose lease ran out, for ``lease`` seconds; ``None`` if it is not to be had."""
        values = {":runner": runner, ":now": now, ":until": now + lease, ":one": 1}
        states = {":queued": QUEUED, ":processing": PROCESSING}
        names = {"#status": "status"}
        try:
            taken = await self._db.update(
                "jobs", _key(id), TAKEN, JOB_IS_TO_BE_HAD, values=dump(values | states), names=names
            )
        except StateConflict:
            return None
        return load(Job, taken)

    async def finish_job(self, id: str, runner: str, *, now: float, result: bytes = b"", error: str = "") -> bool:
        """Write the end once, only by the runner that holds it; ``False`` if it ended already or is another's now."""
        status = FAILED if error else COMPLETED
        end = {":status": status, ":result": result, ":error": error, ":now": now}
        names = {"#status": "status", "#result": "result", "#error": "error"}
        values = dump({**end, ":runner": runner, ":processing": PROCESSING})
        try:
            await self._db.update("jobs", _key(id), ENDED, JOB_IS_HELD, values=values, names=names)
        except StateConflict:
            return False
        return True


def _key(id: str) -> Item:
    return {"id": {"S": id}}
