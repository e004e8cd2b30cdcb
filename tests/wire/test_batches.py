"""Batches on a real socket, by OpenAI's client: run, refused line by line, cancelled, expired, listed."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import Batch

from penstock.core.batches import driver, turns
from penstock.core.jobs import resender, runner
from penstock.core.keys import generate, new_key
from penstock.schema.limit import Limits
from tests.wire import gateway as gateways
from tests.wire.gateway import KEY, MODEL, Gateway
from tests.wire.upstream import Call, Upstream, answering, completion

CHAT_URL: Any = "/v1/chat/completions"
ENDED = ("completed", "failed", "expired", "cancelled")


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch, upstream: Upstream) -> None:
    """Batches in small: chunks of 4 lines, and no pauses."""
    upstream.script = answering(completion())
    monkeypatch.setattr(driver, "CHUNK", 4)
    monkeypatch.setattr(driver, "SPAN", 16)
    monkeypatch.setattr(turns, "SOON", 0.02)
    monkeypatch.setattr(turns, "LATER", 0.05)
    monkeypatch.setattr(resender, "EVERY", 0.1)
    monkeypatch.setattr(runner, "RENEWED", 0.05)


@pytest.fixture
async def gateway(tmp_path: Path, upstream: Upstream) -> AsyncIterator[Gateway]:
    sections = {"batches": {"max_lines": 50, "window": 6}}
    async with gateways.serve(
        tmp_path, gateways.provider(upstream.url), sections=sections, max_body_bytes=4096
    ) as gateway:
        yield gateway


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def line(name: str, url: str = CHAT_URL, method: str = "POST", **body: Any) -> dict[str, Any]:
    """A line that asks for an answer."""
    asked = {"model": MODEL, "messages": [{"role": "user", "content": name}], **body}
    return {"custom_id": name, "method": method, "url": url, "body": asked}


def lines(count: int) -> list[dict[str, Any]]:
    return [line(f"line {number}") for number in range(count)]


async def submit(client: openai.AsyncOpenAI, content: Sequence[Any] | bytes, **asked: Any) -> Batch:
    """Hand in a batch."""
    document = content if isinstance(content, bytes) else b"\n".join(json.dumps(line).encode() for line in content)
    file = await client.files.create(file=("in.jsonl", document), purpose="batch")
    window: Any = asked.pop("completion_window", "24h")
    return await client.batches.create(input_file_id=file.id, endpoint=CHAT_URL, completion_window=window, **asked)


async def ended(client: openai.AsyncOpenAI, batch: Batch, *states: str) -> Batch:
    """The batch once it is in one of these states."""
    async with asyncio.timeout(gateways.PATIENCE):
        while batch.status not in (states or ENDED):
            await asyncio.sleep(0.02)
            batch = await client.batches.retrieve(batch.id)
    return batch


async def written(client: openai.AsyncOpenAI, file_id: str | None) -> list[dict[str, Any]]:
    """The lines of a file that a batch has written."""
    if file_id is None:
        return []
    file = await client.files.retrieve(file_id)
    content = (await client.files.content(file_id)).content
    assert (file.purpose, file.bytes) == ("batch_output", len(content))
    return [json.loads(line) for line in content.splitlines()]


def counts(batch: Batch) -> tuple[int, int, int]:
    assert batch.request_counts is not None
    return batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed


async def test_every_line_is_answered_once_and_in_order(client: openai.AsyncOpenAI, upstream: Upstream) -> None:
    submitted = await submit(client, lines(19), metadata={"for": "nobody"})
    assert (submitted.status, submitted.object, submitted.metadata) == ("validating", "batch", {"for": "nobody"})
    batch = await ended(client, submitted)
    assert (batch.status, counts(batch), batch.error_file_id) == ("completed", (19, 19, 0), None)
    found = await written(client, batch.output_file_id)
    assert [line["custom_id"] for line in found] == [f"line {number}" for number in range(19)]
    assert Counter(call.json["messages"][0]["content"] for call in upstream.calls) == Counter(
        f"line {number}" for number in range(19)
    )
    first = found[0]
    assert set(first) == {"id", "custom_id", "response", "error"}
    assert first["response"]["status_code"] == 200
    assert first["response"]["body"]["choices"][0]["message"]["content"] == "Hello there"
    assert first["id"].startswith("batch_req_")
    assert len({line["id"] for line in found}) == len({line["response"]["request_id"] for line in found}) == 19
    stamps = (batch.created_at, batch.in_progress_at, batch.finalizing_at, batch.completed_at)
    assert list(stamps) == sorted(stamps)  # type: ignore[type-var]
    assert batch.expires_at == batch.created_at + 86400


async def test_each_line_is_in_the_ledger_once(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    batch = await ended(client, await submit(client, lines(5)))
    outcomes = await gateway.outcomes(5)
    assert sorted(outcome.request_id for outcome in outcomes) == sorted(
        line["response"]["request_id"] for line in await written(client, batch.output_file_id)
    )


async def test_what_a_line_lacks_is_in_the_error_file(client: openai.AsyncOpenAI, upstream: Upstream) -> None:
    bad = [line("good"), line("no messages", messages=5), line("no model", model="nobody"), line("control", user="\0")]
    batch = await ended(client, await submit(client, bad))
    assert (batch.status, counts(batch)) == ("completed", (4, 1, 3))
    assert [line["custom_id"] for line in await written(client, batch.output_file_id)] == ["good"]
    errors = {line["custom_id"]: line for line in await written(client, batch.error_file_id)}
    assert {name: line["response"]["status_code"] for name, line in errors.items()} == {
        "no messages": 400,
        "no model": 404,
        "control": 400,
    }
    assert errors["no messages"]["response"]["body"]["error"]["param"] == "messages"
    assert errors["no messages"]["error"] is None


async def test_where_no_line_is_answered_there_is_no_output_file(client: openai.AsyncOpenAI, tmp_path: Path) -> None:
    batch = await ended(client, await submit(client, [line("a", model="nobody")]))
    assert (batch.output_file_id, counts(batch)) == (None, (1, 0, 1))
    purposes = [file.purpose async for file in client.files.list()]
    assert sorted(purposes) == ["batch", "batch_output"]
    assert len(list((tmp_path / "state.objects" / "files").iterdir())) == 2


GOOD = json.dumps(line("good")).encode()
MISTAKES = {
    "JSON": (GOOD + b"\n{no", "invalid_json_line", 2, None),
    "a list": (b"[]", "invalid_json_line", 1, None),
    "no custom_id": (b'{"method":"POST"}', "missing_required_parameter", 1, "custom_id"),
    "a number for custom_id": (b'{"custom_id":5}', "invalid_value", 1, "custom_id"),
    "custom_id twice": (GOOD + b"\n\n" + GOOD, "duplicate_custom_id", 3, "custom_id"),
    "method": (json.dumps(line("a", method="GET")).encode(), "invalid_method", 1, "method"),
    "url": (json.dumps(line("a", url="/v1/embeddings")).encode(), "invalid_url", 1, "url"),
    "no body": (json.dumps(line("a") | {"body": 5}).encode(), "missing_required_parameter", 1, "body"),
    "no model": (json.dumps(line("a", model=None)).encode(), "missing_required_parameter", 1, "body.model"),
    "a long line": (GOOD + b"\n" + b" " * 5000, "line_too_long", 2, None),
    "nothing": (b"\n \n", "empty_file", None, "input_file_id"),
    "too many": (b"\n".join(json.dumps(one).encode() for one in lines(51)), "too_many_lines", None, "input_file_id"),
}


@pytest.mark.parametrize("case", MISTAKES)
async def test_a_mistake_in_the_input_fails_the_batch_and_names_the_line(
    client: openai.AsyncOpenAI, upstream: Upstream, case: str
) -> None:
    content, code, row, param = MISTAKES[case]
    batch = await ended(client, await submit(client, content))
    assert batch.status == "failed"
    assert batch.failed_at is not None
    assert batch.errors is not None
    assert batch.errors.data is not None
    (error,) = batch.errors.data
    assert (error.code, error.line, error.param) == (code, row, param)
    assert error.message
    assert not upstream.calls


async def test_a_line_ending_of_windows_and_blank_lines_do_no_harm(client: openai.AsyncOpenAI) -> None:
    content = b"\r\n\r\n".join(json.dumps(one).encode() for one in lines(3)) + b"\r\n\n"
    batch = await ended(client, await submit(client, content))
    assert (batch.status, counts(batch)) == ("completed", (3, 3, 0))


async def test_counts_are_true_while_a_batch_runs_and_a_slow_line_holds_up_no_other(
    client: openai.AsyncOpenAI, upstream: Upstream
) -> None:
    going = asyncio.Event()

    async def script(call: Call) -> None:
        if call.json["messages"][0]["content"] == "line 0":
            await going.wait()
        await answering(completion())(call)

    upstream.script = script
    batch = await submit(client, lines(20))
    async with asyncio.timeout(gateways.PATIENCE):
        while counts(batch) != (20, 15, 0):  # all that may be begun before the first is answered
            await asyncio.sleep(0.02)
            batch = await client.batches.retrieve(batch.id)
    assert batch.status == "in_progress"
    going.set()
    assert counts(await ended(client, batch)) == (20, 20, 0)


async def test_a_cancelled_batch_keeps_what_was_answered_and_begins_nothing_more(
    client: openai.AsyncOpenAI, upstream: Upstream, gateway: Gateway
) -> None:
    async def script(call: Call) -> None:
        if call.json["messages"][0]["content"] in ("line 0", "line 1"):
            await answering(completion())(call)
        else:
            await call.gone.wait()

    upstream.script = script
    batch = await submit(client, lines(40))
    async with asyncio.timeout(gateways.PATIENCE):
        while counts(batch)[1] < 2:
            await asyncio.sleep(0.02)
            batch = await client.batches.retrieve(batch.id)
    cancelling = await client.batches.cancel(batch.id)
    assert (cancelling.status, cancelling.cancelling_at is not None) == ("cancelling", True)
    batch = await ended(client, batch)
    assert (batch.status, counts(batch)) == ("cancelled", (40, 2, 38))
    assert [line["custom_id"] for line in await written(client, batch.output_file_id)] == ["line 0", "line 1"]
    errors = await written(client, batch.error_file_id)
    assert [line["custom_id"] for line in errors] == [f"line {number}" for number in range(2, 40)]
    assert {(line["response"], line["error"]["code"]) for line in errors} == {(None, "batch_cancelled")}
    assert len(upstream.calls) < 12
    await gateways.eventually(lambda: all(call.gone.is_set() or call.over.is_set() for call in upstream.calls))
    assert await gateway.house.store.due_jobs(2e9, limit=100) == [], "nothing is left to be run"
    for _ in range(2):
        with pytest.raises(openai.ConflictError, match="cancelled"):
            await client.batches.cancel(batch.id)


async def test_at_the_end_of_its_window_a_batch_expires(
    client: openai.AsyncOpenAI, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(call: Call) -> None:
        if call.json["messages"][0]["content"] == "line 0":
            await answering(completion())(call)
        else:
            await call.gone.wait()

    upstream.script = script
    batch = await submit(client, lines(9), completion_window="2h")
    assert batch.expires_at == batch.created_at + 7200
    async with asyncio.timeout(gateways.PATIENCE):
        while counts(batch)[1] < 1:
            await asyncio.sleep(0.02)
            batch = await client.batches.retrieve(batch.id)
    now = driver.time.time()
    monkeypatch.setattr(driver, "time", Later(now + 7200))
    batch = await ended(client, batch)
    assert (batch.status, counts(batch), batch.expired_at is not None) == ("expired", (9, 1, 8), True)
    assert [line["custom_id"] for line in await written(client, batch.output_file_id)] == ["line 0"]
    assert {line["error"]["code"] for line in await written(client, batch.error_file_id)} == {"batch_expired"}


class Later:
    """A clock that stands."""

    def __init__(self, at: float) -> None:
        self._at = at

    def time(self) -> float:
        """Seconds since the epoch."""
        return self._at

    monotonic = time


async def test_limits_of_requests_do_not_refuse_the_lines_of_a_batch(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = generate()
    limits = Limits(requests_per_minute=3, burst=3, concurrency=1)
    await gateway.house.store.create_key(new_key(secret, limits=limits))
    monkeypatch.setattr(runner, "BACKOFF", 0.02)
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=secret.reveal(), max_retries=0) as client:
        batch = await ended(client, await submit(client, lines(12)))
    assert counts(batch) == (12, 12, 0)


async def test_a_batch_is_private_to_its_key(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    batch = await ended(client, await submit(client, lines(1)))
    secret = generate()
    await gateway.house.store.create_key(new_key(secret))
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=secret.reveal(), max_retries=0) as other:
        assert [found.id async for found in other.batches.list()] == []
        for ask in (other.batches.retrieve, other.batches.cancel):
            with pytest.raises(openai.NotFoundError):
                await ask(batch.id)
        with pytest.raises(openai.NotFoundError):
            await other.batches.create(input_file_id=batch.input_file_id, endpoint=CHAT_URL, completion_window="24h")
        assert batch.output_file_id is not None
        with pytest.raises(openai.NotFoundError):
            await other.files.content(batch.output_file_id)
    driving = await gateway.client.delete(f"/v1/jobs/{batch.id}")
    assert driving.status_code == 404, "the job that drives a batch is nobody's"


async def test_batches_are_listed_in_pages_the_newest_first(client: openai.AsyncOpenAI) -> None:
    made = [(await submit(client, lines(1))).id for _ in range(3)]
    assert [batch.id async for batch in client.batches.list(limit=2)] == made[::-1]
    page = await client.batches.list(limit=2)
    assert ([batch.id for batch in page.data], page.has_more) == ([made[2], made[1]], True)


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"endpoint": "/v1/responses"}, "endpoint"),
        ({"completion_window": "soon"}, "completion_window"),
        ({"completion_window": "8d"}, "completion_window"),
        ({"completion_window": "0h"}, "completion_window"),
        ({"metadata": {"a": "x" * 513}}, "metadata.a"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 5}}, "output_expires_after.seconds"),
        ({"input_file_id": 5}, "input_file_id"),
    ],
)
async def test_a_batch_that_cannot_be_is_refused(gateway: Gateway, asked: dict[str, Any], param: str) -> None:
    body = {"input_file_id": "file-1", "endpoint": CHAT_URL, "completion_window": "24h", **asked}
    answer = await gateway.client.post("/v1/batches", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


async def test_a_file_of_another_purpose_is_no_input(client: openai.AsyncOpenAI) -> None:
    file = await client.files.create(file=("a", b"x"), purpose="user_data")
    with pytest.raises(openai.BadRequestError, match="purpose"):
        await client.batches.create(input_file_id=file.id, endpoint=CHAT_URL, completion_window="24h")


async def test_the_files_of_a_batch_are_kept_as_long_as_its_caller_says(client: openai.AsyncOpenAI) -> None:
    after: Any = {"anchor": "created_at", "seconds": 7200}
    batch = await ended(client, await submit(client, lines(1), output_expires_after=after))
    assert batch.output_file_id is not None
    file = await client.files.retrieve(batch.output_file_id)
    assert file.expires_at == file.created_at + 7200


async def test_a_batch_whose_input_is_forgotten_fails_and_leaves_nothing_to_run(
    client: openai.AsyncOpenAI, upstream: Upstream, gateway: Gateway
) -> None:
    async def script(call: Call) -> None:
        await call.gone.wait()

    upstream.script = script
    batch = await submit(client, lines(9))
    await upstream.call(0)
    await client.files.delete(batch.input_file_id)
    upstream.script = answering(completion())
    await gateway.client.delete(f"/v1/jobs/{batch.id}-0")
    batch = await ended(client, batch)
    assert batch.status == "failed"
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert batch.errors.data[0].code == "file_not_found"
    async with asyncio.timeout(gateways.PATIENCE):  # its caller reads the end before the turn that wrote it is over
        due = [batch.id]
        while due:
            await asyncio.sleep(0.02)
            due = [job.id for job in await gateway.house.store.due_jobs(2e9, limit=100)]
