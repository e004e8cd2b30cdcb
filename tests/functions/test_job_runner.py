"""The door for jobs, driven by its events through AWS's runtime interface client, on a SQLite store."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock import plugs
from penstock.schema.job import COMPLETED, QUEUED, Job
from penstock.schema.request import CHAT, EMBEDDINGS
from tests.functions import doors, runtime_api

PROMPT = "Tell nobody about the heron at the weir."


@pytest.fixture(scope="module")
def door(api: runtime_api.RuntimeApi, given: dict[str, str], folder: Path) -> Iterator[doors.Door]:
    with doors.buffered("JobRunner", api, given, folder / "log") as door:
        yield door


class Jobs:
    """The job table, seen from outside of the function."""

    def __init__(self, url: str) -> None:
        self._url = url

    def create(self, id: str, endpoint: str = CHAT, **body: Any) -> None:
        """Accept a job."""
        content = json.dumps({"model": "simulated/echo", **body}).encode()
        self._on_the_store(lambda store: store.create_job(Job(id, "test", endpoint, content, time.time())))

    def find(self, id: str) -> Job:
        """The job as it is now."""
        job: Job = self._on_the_store(lambda store: store.find_job(id))
        return job

    def _on_the_store(self, act: Any) -> Any:
        async def acted() -> Any:
            store = plugs.load("stores", "sqlite").connect(self._url, None)
            await store.open()
            try:
                return await act(store)
            finally:
                await store.close()

        return asyncio.run(acted())


@pytest.fixture(scope="module")
def jobs(given: dict[str, str]) -> Jobs:
    return Jobs(given["PENSTOCK_STATE_URL"])


def batch(*bodies: str) -> dict[str, Any]:
    """An event of SQS with these messages, after the form of events/job_runner_chat.json."""
    event = doors.event("job_runner_chat")
    record = event["Records"][0]
    event["Records"] = [{**record, "messageId": f"m-{n}", "body": body} for n, body in enumerate(bodies)]
    return event


@pytest.mark.row("D1", "D2", "D4")
def test_a_chat_job_is_run_and_its_result_kept(door: doors.Door, jobs: Jobs) -> None:
    jobs.create("job-0001", messages=[{"role": "user", "content": PROMPT}])
    assert door.call(doors.event("job_runner_chat")) == {"batchItemFailures": []}
    job = jobs.find("job-0001")
    assert job.status == COMPLETED
    assert PROMPT in json.loads(job.result)["choices"][0]["message"]["content"]


def test_a_message_that_names_no_job_goes_back_to_the_queue(door: doors.Door) -> None:
    event = doors.event("job_runner_poison")
    failed = [{"itemIdentifier": event["Records"][0]["messageId"]}]
    assert door.call(event) == {"batchItemFailures": failed}


def test_of_a_batch_with_a_poisoned_message_that_one_goes_back(door: doors.Door, jobs: Jobs) -> None:
    for name in ("job-0002", "job-0003"):
        jobs.create(name, messages=[{"role": "user", "content": name}])
    event = doors.event("job_runner_batch")
    assert door.call(event) == {"batchItemFailures": [{"itemIdentifier": event["Records"][1]["messageId"]}]}
    assert jobs.find("job-0002").status == jobs.find("job-0003").status == COMPLETED


def test_one_bad_message_does_not_hold_back_the_others(door: doors.Door, jobs: Jobs) -> None:
    jobs.create("job-a", messages=[{"role": "user", "content": "one"}])
    jobs.create("job-b", EMBEDDINGS, input="two")
    event = batch('{"job_id": "job-a"}', "not a job", '{"job_id": "job-b"}', '{"job_id": "job-of-nobody"}')
    failed = [{"itemIdentifier": "m-1"}, {"itemIdentifier": "m-3"}]
    assert door.call(event) == {"batchItemFailures": failed}
    assert jobs.find("job-a").status == jobs.find("job-b").status == COMPLETED


def test_a_message_delivered_twice_runs_its_job_once(door: doors.Door, jobs: Jobs) -> None:
    jobs.create("job-twice", messages=[{"role": "user", "content": "again"}])
    message = batch('{"job_id": "job-twice"}')
    assert door.call(message) == {"batchItemFailures": []}
    first = jobs.find("job-twice")
    assert door.call(message) == {"batchItemFailures": []}
    assert jobs.find("job-twice") == first


def test_a_job_that_no_message_named_is_left_alone(door: doors.Door, jobs: Jobs) -> None:
    jobs.create("job-later", messages=[{"role": "user", "content": "later"}])
    door.call(doors.event("job_runner_poison"))
    assert jobs.find("job-later").status == QUEUED


def test_the_log_names_failed_messages_and_keeps_prompts_out(door: doors.Door) -> None:
    door.call(batch(json.dumps({"prompt": PROMPT})))
    assert "message m-0 failed with JobError" in door.log
    assert PROMPT not in door.log
    assert "different loop" not in door.log
