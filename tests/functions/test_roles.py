"""Each function at work on DynamoDB, and its role held against what it did: enough, and nothing to spare."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penstock import plugs
from penstock.core import fleet
from penstock.core.batches.accepting import Batches
from penstock.core.files.shelf import Shelf
from penstock.core.keys import generate, new_key
from penstock.core.ports.objects import one
from penstock.outbound import HttpClient
from penstock.schema.batch import COMPLETED, Batch
from penstock.schema.config import FileSection
from penstock.schema.job import Job
from penstock.schema.key import Caller
from penstock.schema.limit import Limits
from penstock.schema.meter import Claim
from penstock.schema.request import CHAT
from penstock.schema.secret import Secret
from penstock.schema.webhook import Webhook, Webhooks
from tests.functions import adapter, doors, dynamodb, runtime_api, template, watching

LEDGER_OF_MANY = {("outcomes", "dynamodb:BatchGetItem"), ("outcomes", "dynamodb:BatchWriteItem")}
"""When outcomes had to wait for the store, they are written together."""
FLEET_SECRET = Secret("a-secret-of-the-fleet")
REPEATED_WRITES = {(kind, "dynamodb:GetItem") for kind in ("outcomes", "jobs", "workers", "deliveries")}
"""When a condition fails, the item is read to learn whether this very call had written it."""
CONFIGURATION = {("registry", "dynamodb:UpdateItem"), ("registry", "dynamodb:BatchGetItem")}
"""When a configuration is rolled back, and when all are listed."""
DISCOVERY = {("registry", "dynamodb:PutItem")}
"""When a provider is asked for its models, the answer is published."""
WORD_OF_PLACES = {("notices", f"dynamodb:{action}") for action in ("Scan", "PutItem", "GetItem")}
"""When a model has several places: what others know of them is read, and what becomes of them is told."""
LAMBDAS_OWN = {("queue", f"sqs:{action}") for action in ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")}
"""What Lambda does in the function's name to bring it messages."""
TOKENS_OF_JOBS = {("chunks", "dynamodb:PutItem")}
"""When a worker posts the answer of a job that streams, what it says is written down."""
JOB_AGAIN = {("queue", "sqs:SendMessage")}
"""When a try of a job failed, its message is sent again."""
FULL_MODEL = {("jobs/index", "dynamodb:Query")}
"""When a model has a limit of its own, the jobs that wait for room in it are called."""
LARGE_DOCUMENTS = {("objects", f"s3:{action}") for action in ("GetObject", "AbortMultipartUpload", "ListBucket")} | {
    *(("objects", "s3:PutObject"), ("objects", "s3:DeleteObject"), ("batches", "dynamodb:GetItem")),
}
"""When a body or an answer is too large for a record; whoever may not list is told 403 of what is not there."""
SUMMARIES = {("cached", f"dynamodb:{action}") for action in ("GetItem", "PutItem", "UpdateItem")}
"""When a conversation is condensed, its summary is kept."""
MORE_THAN_A_LIMIT = {("limits", "dynamodb:GetItem")}
"""When a request asks for more than a whole limit, the meter is read to tell what is left."""


@pytest.fixture
def wire() -> Iterator[dynamodb.Wire]:
    with dynamodb.serve() as wire:
        yield wire


@pytest.fixture
def on_dynamodb(given: dict[str, str], wire: dynamodb.Wire) -> dict[str, str]:
    return {**given, **wire_urls(wire), "PENSTOCK_FLEET_SECRET": FLEET_SECRET.reveal()}


def wire_urls(wire: dynamodb.Wire) -> dict[str, str]:
    return {
        "PENSTOCK_STATE_URL": wire.state_url,
        "PENSTOCK_QUEUE_URL": wire.queue_url,
        "PENSTOCK_OBJECTS_URL": wire.objects_url,
    }


def allowed(function: str) -> set[tuple[str, str]]:
    """What the function's role lets it do with the tables and the queue."""
    [policy] = template.resources("AWS::IAM::Role")[f"{function}Role"]["Policies"]
    found = set()
    for statement in policy["PolicyDocument"]["Statement"]:
        listed = statement["Resource"]
        for each in listed if isinstance(listed, list) else [listed]:
            [(function, resource)] = each.items()
            named = ".".join(resource) if function == "Fn::GetAtt" else resource
            if table := re.fullmatch(r"(?:\$\{)?State\.Outputs\.(\w+)Arn(?:\}(/index)?/\*)?", named):
                kind = table[1].lower() + (table[2] or "")
                found |= {(kind, action) for action in statement["Action"]}
            elif named in ("JobQueue.Arn", "UrgentJobQueue.Arn"):
                found |= {("queue", action) for action in statement["Action"]}
    return found


def assert_fits(function: str, wire: dynamodb.Wire, *rarely: set[tuple[str, str]]) -> None:
    assert wire.seen
    assert wire.seen <= allowed(function), "the role lacks what the function does"
    assert allowed(function) <= wire.seen.union(*rarely), "the role allows what the function never does"


@pytest.mark.row("D1")
def test_http_api(on_dynamodb: dict[str, str], wire: dynamodb.Wire, tmp_path: Path) -> None:
    asyncio.run(make_admin(wire.state_url))
    wire.seen.clear()
    with runtime_api.serve() as api, doors.buffered("HttpApi", api, on_dynamodb, tmp_path / "log") as door:
        assert door.call(doors.event("http_api_health"))["statusCode"] == 200
        assert door.call(doors.event("http_api_models"))["statusCode"] == 200
        assert door.call(doors.event("http_api_embeddings"))["statusCode"] == 200
        stranger = doors.presenting(doors.event("http_api_models"), "a-key-that-only-the-store-could-know")
        assert door.call(stranger)["statusCode"] == 401
        administer(door)
        work(door)
        pull(door)
        have_webhooks(door)
        watching.administer(door, wire.state_url)
        submit_and_cancel(door)
        keep_a_file(door)
    rarely = LARGE_DOCUMENTS | TOKENS_OF_JOBS
    assert_fits("HttpApi", wire, CONFIGURATION, LEDGER_OF_MANY, REPEATED_WRITES, WORD_OF_PLACES, rarely)


@pytest.mark.timeout(900)  # where cargo must build the adapter first, it takes minutes
@pytest.mark.row("D1")
def test_stream_api(on_dynamodb: dict[str, str], wire: dynamodb.Wire, tmp_path: Path) -> None:
    program = adapter.find()
    asyncio.run(tell(wire.state_url, "job-0003"))
    file_id = asyncio.run(hand_in(wire)).input_file_id
    wire.seen.clear()
    with runtime_api.serve() as api, doors.streaming(program, api, on_dynamodb, tmp_path / "log") as door:
        assert b'"completed"' in door.invoke(doors.event("stream_api_task")).wait().body
        assert b"[DONE]" in door.invoke(doors.event("stream_api_chat")).wait().body
        assert b"[DONE]" in door.invoke(without_chance(doors.event("stream_api_chat"))).wait().body
        assert b'"chat.completion"' in door.invoke(doors.event("stream_api_chat_plain")).wait().body
        assert b'"queued"' in door.invoke(doors.event("stream_api_chat_later")).wait().body
        told = door.invoke(doors.event("stream_api_job_stream")).wait().body
        assert told == b'id: 1-2\ndata: {"choices": []}\n\ndata: [DONE]\n\n'
        content = doors.event("stream_api_file_content") | {"path": f"/v1/files/{file_id}/content"}
        assert b"custom_id" in door.invoke(content).wait().body
        stranger = doors.presenting(doors.event("stream_api_chat"), "a-key-that-only-the-store-could-know")
        assert door.invoke(stranger).wait().prelude["statusCode"] == 401
    assert_fits(
        *("StreamApi", wire, LEDGER_OF_MANY, REPEATED_WRITES, DISCOVERY, WORD_OF_PLACES, MORE_THAN_A_LIMIT),
        LARGE_DOCUMENTS,
    )


def test_job_runner(on_dynamodb: dict[str, str], wire: dynamodb.Wire, tmp_path: Path) -> None:
    asyncio.run(accept(wire.state_url, "job-0001", notify=True))
    batch = asyncio.run(hand_in(wire))
    wire.seen.clear()
    with runtime_api.serve() as api, doors.buffered("JobRunner", api, on_dynamodb, tmp_path / "log") as door:
        assert door.call(doors.event("job_runner_chat")) == {"batchItemFailures": []}
        for job_id in (batch.id, batch.line(0), batch.id):
            assert door.call(message(job_id)) == {"batchItemFailures": []}
    assert asyncio.run(status(wire, batch)) == COMPLETED
    assert_fits(
        *("JobRunner", wire, LEDGER_OF_MANY, REPEATED_WRITES, DISCOVERY, WORD_OF_PLACES, MORE_THAN_A_LIMIT),
        LAMBDAS_OWN | JOB_AGAIN | FULL_MODEL | LARGE_DOCUMENTS | SUMMARIES,
    )


def test_housekeeper(on_dynamodb: dict[str, str], wire: dynamodb.Wire, tmp_path: Path) -> None:
    asyncio.run(lose_a_hold(wire.state_url))
    asyncio.run(accept(wire.state_url, "job-0002", due_at=1.0))
    asyncio.run(accept(wire.state_url, "job-untold", notify=True, ended=True))
    asyncio.run(hand_in(wire, seconds=-1.0))
    asyncio.run(watching.leave_rules(wire.state_url))
    wire.seen.clear()
    with runtime_api.serve() as api, doors.buffered("Housekeeper", api, on_dynamodb, tmp_path / "log") as door:
        done = door.call(doors.event("housekeeper_schedule"))
    assert (done["models"], done["holds_ended"], done["jobs_resent"], done["files_removed"]) == (1, 1, 1, 1)
    assert done["rules_looked_at"] >= 1
    assert done["alerts_told"] == 1
    assert done["deliveries_tried"] >= 1, "other functions may have left some"
    assert_fits("Housekeeper", wire, DISCOVERY, WORD_OF_PLACES, REPEATED_WRITES)


def test_no_role_reaches_beyond_the_systems_own_resources() -> None:
    for name, role in template.resources("AWS::IAM::Role").items():
        assert "ManagedPolicyArns" not in role
        for statement in role["Policies"][0]["PolicyDocument"]["Statement"]:
            assert not [action for action in statement["Action"] if "*" in action], name
            listed = statement["Resource"]
            assert all(isinstance(each, dict) for each in (listed if isinstance(listed, list) else [listed])), name
    given = {function["Role"]["Fn::GetAtt"][0] for function in template.functions().values()}
    assert len(given) == len(template.functions())


def without_chance(event: dict[str, Any]) -> dict[str, Any]:
    """The same request, whose answer may be kept."""
    return event | {"body": json.dumps(json.loads(event["body"]) | {"temperature": 0})}


def administer(door: doors.Door) -> None:
    """Let a key be made and go through all that may happen to one."""
    made = door.call(doors.event("http_api_make_key"))
    assert made["statusCode"] == 201
    path = f"/api/v1/apikeys/{json.loads(made['body'])['id']}"
    for method, where, body in (
        ("GET", "/api/v1/apikeys", None),
        ("GET", path, None),
        ("PATCH", path, {"owner": "ada"}),
        ("POST", f"{path}/rotate", {"grace_seconds": 60}),
        ("DELETE", path, None),
        ("GET", "/api/v1/audit", None),
        ("GET", "/v1/usage", None),
    ):
        event = doors.event("http_api_make_key") | {"httpMethod": method, "path": where}
        event["body"] = json.dumps(body) if body else None
        assert door.call(event)["statusCode"] == 200, (method, where)


def submit_and_cancel(door: doors.Door) -> None:
    """Have a request answered later, look how far it is, and cancel it."""
    submitted = door.call(doors.event("http_api_embeddings_later"))
    assert submitted["statusCode"] == 202
    path = submitted["headers"]["location"]
    for event, status in (("http_api_read_job", 202), ("http_api_cancel_job", 200), ("http_api_read_job", 410)):
        assert door.call(doors.event(event) | {"path": path})["statusCode"] == status, event


def keep_a_file(door: doors.Door) -> None:
    """Keep a file, make a batch of it, and forget it."""
    kept = door.call(doors.event("http_api_keep_file"))
    assert kept["statusCode"] == 200, kept
    file_id = json.loads(kept["body"])["id"]
    event = doors.event("http_api_create_batch")
    made = door.call(event | {"body": event["body"].replace("file-0660d2b4b28bfcd59e7f8b2d73d5cf", file_id)})
    assert made["statusCode"] == 200, made
    batch_id = json.loads(made["body"])["id"]
    read = doors.event("http_api_read_batch")
    for method, path in (
        *(("GET", "/v1/files"), ("GET", f"/v1/files/{file_id}"), ("GET", "/v1/batches")),
        *(("GET", f"/v1/batches/{batch_id}"), ("POST", f"/v1/batches/{batch_id}/cancel")),
        ("DELETE", f"/v1/files/{file_id}"),
    ):
        assert door.call(read | {"httpMethod": method, "path": path})["statusCode"] == 200, (method, path)


def message(job_id: str) -> dict[str, Any]:
    """An event of SQS that names a job."""
    event = doors.event("job_runner_chat")
    event["Records"] = [{**event["Records"][0], "body": json.dumps({"job_id": job_id})}]
    return event


async def hand_in(wire: dynamodb.Wire, seconds: float | None = None) -> Batch:
    """Keep a file of one request, for so many seconds, and make a batch of it, as the doors do."""
    client = HttpClient()
    store = plugs.load("stores", "dynamodb").connect(wire.state_url, client)
    await store.open()
    files = Shelf(store, plugs.load("objects", "s3").connect(wire.objects_url, client), FileSection())
    body = {"model": "simulated/echo", "messages": [{"role": "user", "content": "hello " * 20_000}], "max_tokens": 5}
    asked = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    file = await files.write(await files.begin("config-1"), one(json.dumps(asked).encode()))
    file = await files.publish(replace(file, purpose="batch", filename="in"), seconds=seconds)
    queue = plugs.load("queues", "sqs").connect(wire.queue_url, client)
    batch = Batch(f"batch_{file.id}", file.key_id, asked["url"], file.id, "24h", time.time(), 2e9, 2e9)
    if seconds is None:
        asked_for = {"file_id": file.id, "endpoint": asked["url"], "metadata": "", "seconds": 0}
        batch = await Batches(store, queue, files).create(Caller(file.key_id), window=("24h", 86400.0), **asked_for)
    await store.close()
    await client.aclose()
    return batch


async def status(wire: dynamodb.Wire, batch: Batch) -> str:
    """How a batch is."""
    store = plugs.load("stores", "dynamodb").connect(wire.state_url, None)
    await store.open()
    found = await store.find_batch(batch.key_id, batch.id)
    await store.close()
    return str(found.status)


def work(door: doors.Door) -> None:
    """Let a worker register, say that it is there, and leave."""
    worker = {"id": "gpu-1", "generation": "g1", "url": "http://10.0.0.5:30000", "models": ["llama"]}
    said(
        door,
        ("/v1/workers", worker, 201),
        ("/v1/workers/gpu-1/heartbeat", {"generation": "g1"}, 200),
        ("/v1/workers/gpu-1/drain", {}, 200),
    )


def pull(door: doors.Door) -> None:
    """Let a worker that nobody can call register and ask for jobs."""
    worker = {"id": "gpu-2", "generation": "g1", "pull": True, "models": ["llama"]}
    said(door, ("/v1/workers", worker, 201), ("/v1/workers/gpu-2/jobs/claim", {"generation": "g1", "wait": 20}, 200))


def said(door: doors.Door, *calls: tuple[str, dict[str, Any], int]) -> None:
    """Say something as the fleet does, and expect a status."""
    for path, body, status in calls:
        text = json.dumps(body)
        signature = fleet.sign(FLEET_SECRET, "POST", path, text.encode(), int(time.time()))
        event = doors.event("http_api_make_key") | {"path": path, "body": text}
        event["headers"] = {**event["headers"], "x-penstock-signature": signature}
        event["multiValueHeaders"] = {**event["multiValueHeaders"], "x-penstock-signature": [signature]}
        assert door.call(event)["statusCode"] == status, path


def have_webhooks(door: doors.Door) -> None:
    """Register a webhook, and go through all that may happen to one."""
    made = door.call(doors.event("http_api_make_webhook"))
    assert made["statusCode"] == 201
    path = f"/v1/webhooks/{json.loads(made['body'])['id']}"
    tested = call(door, "POST", f"{path}/test")
    for method, where in (
        ("GET", "/v1/webhooks"),
        ("PATCH", path),
        ("POST", f"{path}/rotate"),
        ("GET", f"{path}/deliveries"),
        ("POST", f"/v1/webhooks/deliveries/{tested['id']}/redeliver"),
    ):
        call(door, method, where)


def call(door: doors.Door, method: str, path: str) -> Any:
    """What a route answers to its key's holder."""
    event = doors.event("http_api_make_webhook") | {"httpMethod": method, "path": path, "body": "{}"}
    answer = door.call(event)
    assert answer["statusCode"] == 200, (method, path, answer["body"])
    return json.loads(answer["body"])


async def make_admin(state_url: str) -> None:
    """Put the key of the events into the table, as `penstock keys new --scope admin` does with one of its own."""
    store = plugs.load("stores", "dynamodb").connect(state_url, None)
    await store.open()
    await store.create_key(new_key(Secret("admin-key"), scopes=("admin",)))
    await store.close()


async def lose_a_hold(state_url: str) -> None:
    """Reserve a slot as a process does that dies before it settles."""
    store = plugs.load("stores", "dynamodb").connect(state_url, None)
    await store.open()
    verdict = await store.reserve("req_1", [Claim("key#a", slots=1, max_slots=1, held=True)], now=1, expires=2)
    assert not verdict.refusals
    await store.close()


async def accept(
    state_url: str, id: str, due_at: float | None = None, *, notify: bool = False, ended: bool = False
) -> None:
    """Put a job of a virtual key into the table, as the doors that accept jobs do; one whose end webhooks are to be
    told, perhaps, or one whose runner died after it, before it had told them.
    """
    store = plugs.load("stores", "dynamodb").connect(state_url, None)
    await store.open()
    body = json.dumps({"model": "simulated/echo", "messages": [{"role": "user", "content": "hello"}]}).encode()
    key = new_key(generate(), limits=Limits(tokens_per_minute=100_000))
    await store.create_key(key)
    await store.create_job(Job(id, key.id, CHAT, body, time.time(), due_at=due_at, streamed=True, notify=notify))
    if notify:
        webhook = Webhook("wh_1", "http://127.0.0.1:9/hook", Secret("whsec_dGVzdA=="))
        await store.replace_webhooks(Webhooks(key.id, 1, (webhook,)))
    if ended:
        await store.cancel_job(id, now=time.time(), expires=time.time() + 60, tell_at=1.0)
    await store.close()


async def tell(state_url: str, id: str) -> None:
    """Put a job of the events' own key into the table that has ended, with all that it said."""
    store = plugs.load("stores", "dynamodb").connect(state_url, None)
    await store.open()
    now = time.time()
    await store.create_job(Job(id, "config-1", CHAT, b"{}", now, streamed=True))
    await store.claim_job(id, "runner", now=now, lease=30)
    await store.append_chunks(id, 1, 1, [b"{}", b'{"choices": []}', b"[DONE]"], expires=now + 60)
    await store.finish_job(id, "runner", now=now, expires=now + 60, result=b"{}")
    await store.close()
