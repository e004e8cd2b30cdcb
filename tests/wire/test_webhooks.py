"""Webhooks on a real socket: what is told, verified with the official package, and told again until it has arrived."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from penstock.core.batches import turns
from penstock.core.keys import generate, new_key
from penstock.core.webhooks import announcer, courier
from tests.wire import gateway as gateways
from tests.wire import receiver as receivers
from tests.wire.gateway import KEY, MODEL, Gateway, eventually
from tests.wire.receiver import (
    ALLOWED,
    Receiver,
    ask,
    deliveries,
    delivery,
    hurry,
    registered,
    run_one,
    submit,
)
from tests.wire.upstream import Upstream, answering, completion

BAD = {"error": {"message": "No such thing.", "type": "invalid_request_error", "code": "bad"}}


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch, upstream: Upstream) -> None:
    upstream.script = answering(completion())
    hurry(monkeypatch)


@pytest.fixture
async def gateway(tmp_path: Path, upstream: Upstream) -> AsyncIterator[Gateway]:
    async with gateways.serve(tmp_path, gateways.provider(upstream.url), sections=ALLOWED) as gateway:
        yield gateway


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receivers.serve() as receiver:
        yield receiver


# What is told


async def test_the_end_of_a_job_is_told_and_signed_and_says_neither_prompt_nor_answer(
    gateway: Gateway, receiver: Receiver
) -> None:
    webhook = await registered(gateway, receiver)
    job = await submit(gateway, messages=[{"role": "user", "content": "a canary sings"}])
    message = await receiver.verified(webhook["secret"])
    assert message["type"] == "job.completed"
    assert set(message["data"]) == {"id", "object", "status", "endpoint", "model", "created_at", "finished_at"}
    assert (message["data"]["id"], message["data"]["status"]) == (job, "completed")
    assert message["timestamp"].endswith("Z")
    (call,) = receiver.calls
    assert (call.method, call.target, call.headers["content-type"]) == ("POST", "/hook", "application/json")
    assert call.headers["user-agent"].startswith("Penstock/")
    assert b"canary" not in call.body
    assert b"Hello there" not in call.body
    assert (await gateway.client.get(f"/v1/jobs/{job}")).status_code == 200, "the receiver fetches the answer"


async def test_the_end_is_told_at_once(gateway: Gateway, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    await registered(gateway, receiver)
    job = await submit(gateway)
    await receiver.upstream.call()
    found = await gateway.house.store.find_job(job)
    assert found is not None
    assert found.finished_at is not None
    assert time.time() - found.finished_at < 2


async def test_a_job_that_failed_is_told_as_that(gateway: Gateway, receiver: Receiver, upstream: Upstream) -> None:
    upstream.script = answering(BAD, 400)
    webhook = await registered(gateway, receiver)
    job = await submit(gateway)
    message = await receiver.verified(webhook["secret"])
    assert (message["type"], message["data"]["id"], message["data"]["status"]) == ("job.failed", job, "failed")


async def test_a_job_that_was_cancelled_is_told_as_that(
    gateway: Gateway, receiver: Receiver, upstream: Upstream
) -> None:
    async def never(call: Any) -> None:
        await call.gone.wait()

    upstream.script = never
    webhook = await registered(gateway, receiver)
    job = await submit(gateway)
    await upstream.call()
    await gateway.client.delete(f"/v1/jobs/{job}")
    message = await receiver.verified(webhook["secret"])
    assert (message["type"], message["data"]["status"]) == ("job.cancelled", "cancelled")


async def test_only_what_is_asked_for_is_told(gateway: Gateway, receiver: Receiver) -> None:
    webhook = await registered(gateway, receiver, events=["job.failed"])
    other = await registered(gateway, receiver, events=["job.completed"])
    await submit(gateway)
    await receiver.verified(other["secret"])
    assert await deliveries(gateway, webhook) == []
    assert len(await deliveries(gateway, other)) == 1


async def test_each_webhook_is_told_of_an_event_under_one_name(gateway: Gateway, receiver: Receiver) -> None:
    one, other = await registered(gateway, receiver), await registered(gateway, receiver)
    assert one["secret"] != other["secret"]
    await submit(gateway)
    first, second = await receiver.upstream.call(0), await receiver.upstream.call(1)
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]


async def test_a_key_without_webhooks_has_nobody_told(gateway: Gateway, receiver: Receiver) -> None:
    job = await run_one(gateway)
    found = await gateway.house.store.find_job(job)
    assert found is not None
    assert (found.notify, found.due_at) == (False, None)
    assert not receiver.calls


# Trying again


async def test_what_fails_is_told_again_under_the_same_name_until_it_has_arrived(
    gateway: Gateway, receiver: Receiver
) -> None:
    receiver.answers = [500, 302, 404]
    webhook = await registered(gateway, receiver)
    await submit(gateway)
    done = await delivery(gateway, webhook, "delivered")
    assert [said["status"] for said in done["tries"]] == [500, 302, 404, 204]
    assert [said["reason"] for said in done["tries"]] == [
        *("it answered 500", "it answered 302: redirects are not followed", "it answered 404", "")
    ]
    assert len({call.headers["webhook-id"] for call in receiver.calls}) == 1
    assert len({call.body for call in receiver.calls}) == 1
    assert done["next_try_at"] is None
    shown = (await ask(gateway, "GET", f"/{webhook['id']}")).json
    assert (shown["status"], shown["failing_since"]) == ("enabled", None)


async def test_after_ten_tries_it_has_failed(gateway: Gateway, receiver: Receiver) -> None:
    receiver.answers = [500] * 20
    webhook = await registered(gateway, receiver)
    await submit(gateway)
    done = await delivery(gateway, webhook, "failed")
    assert len(done["tries"]) == 10
    shown = (await ask(gateway, "GET", f"/{webhook['id']}")).json
    assert shown["status"] == "enabled", "others may arrive"
    assert shown["failing_since"] is not None


async def test_a_slow_answer_is_none(gateway: Gateway, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.house.webhooks.courier, "_timeout", 0.05)
    receiver.hold = asyncio.Event()
    webhook = await registered(gateway, receiver)
    tested = (await ask(gateway, "POST", f"/{webhook['id']}/test")).json
    assert tested["status"] == "failed"
    (said,) = tested["tries"]
    assert (said["status"], said["reason"]) == (0, "no answer within 0.05 seconds")


async def test_nobody_there_is_told_in_the_log_without_more(gateway: Gateway, receiver: Receiver) -> None:
    webhook = await registered(gateway, receiver, url="http://127.0.0.1:9/hook")
    tested = (await ask(gateway, "POST", f"/{webhook['id']}/test")).json
    assert [said["reason"] for said in tested["tries"]] == ["it cannot be reached: Connection refused"]


async def test_retry_after_is_a_floor(gateway: Gateway, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver.answers, receiver.headers = [503], {"Retry_After": "3600"}
    webhook = await registered(gateway, receiver)
    await submit(gateway)

    async def tried() -> bool:
        found = await deliveries(gateway, webhook)
        return bool(found and found[0]["tries"])

    await eventually(tried)
    (waiting,) = await deliveries(gateway, webhook)
    assert waiting["status"] == "waiting"
    assert 3500 < waiting["next_try_at"] - time.time() < 3700


async def test_what_the_answer_says_is_told_to_nobody(gateway: Gateway, receiver: Receiver) -> None:
    async def talkative(call: Any) -> None:
        call.answer({"secret": "of the inside"}, 500, X_Inside="secret of the inside", Connection="close")

    receiver.upstream.script = talkative
    webhook = await registered(gateway, receiver)
    tested = await ask(gateway, "POST", f"/{webhook['id']}/test")
    assert tested.json["tries"][0]["status"] == 500
    assert b"inside" not in tested.body


# Disabled


async def test_one_that_is_gone_is_disabled_and_says_so(gateway: Gateway, receiver: Receiver) -> None:
    receiver.answers = [410]
    webhook = await registered(gateway, receiver)
    await submit(gateway)
    done = await delivery(gateway, webhook, "failed")
    assert [said["status"] for said in done["tries"]] == [410]
    shown = (await ask(gateway, "GET", f"/{webhook['id']}")).json
    assert (shown["status"], shown["disabled_because"]) == ("disabled", "it answered 410: it is gone")
    refused = await ask(gateway, "POST", f"/{webhook['id']}/test")
    assert (refused.status, "disabled" in refused.error["message"]) == (400, True)
    gateway.house.webhooks.announcer.forget("config-1")
    assert not await gateway.house.webhooks.announcer.wanted("config-1")


async def test_one_that_failed_for_days_is_disabled_and_says_so(
    gateway: Gateway, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "GIVEN_UP", 0.03)
    receiver.answers = [500] * 20
    webhook = await registered(gateway, receiver)
    await submit(gateway)
    await delivery(gateway, webhook, "failed")
    shown = (await ask(gateway, "GET", f"/{webhook['id']}")).json
    assert shown["status"] == "disabled"
    assert shown["disabled_because"].startswith("every delivery since 20")


async def test_one_that_was_disabled_begins_anew(gateway: Gateway, receiver: Receiver) -> None:
    webhook = await registered(gateway, receiver)
    off = (await ask(gateway, "PATCH", f"/{webhook['id']}", {"enabled": False})).json
    assert (off["status"], off["disabled_because"]) == ("disabled", "its key's holder disabled it")
    await run_one(gateway)
    assert not receiver.calls
    on = (await ask(gateway, "PATCH", f"/{webhook['id']}", {"enabled": True})).json
    assert (on["status"], on["disabled_at"], on["disabled_because"]) == ("enabled", None, None)
    await submit(gateway)
    await receiver.verified(webhook["secret"])


async def test_what_waits_for_a_webhook_that_was_removed_is_not_sent(gateway: Gateway, receiver: Receiver) -> None:
    receiver.answers, receiver.headers = [503], {"Retry_After": "1"}
    webhook = await registered(gateway, receiver)
    await submit(gateway)
    await receiver.upstream.call()
    removed = await ask(gateway, "DELETE", f"/{webhook['id']}")
    assert removed.json == {"id": webhook["id"], "object": "webhook", "deleted": True}
    assert (await ask(gateway, "GET", f"/{webhook['id']}")).status == 404

    async def given_up() -> bool:
        (found,) = await gateway.house.store.list_deliveries(webhook["id"], before=1e11, limit=1)
        return found.status == "failed" and found.log[-1].reason == "not sent: the webhook was removed"

    await eventually(given_up)
    assert len(receiver.calls) == 1


async def test_a_key_that_was_revoked_is_told_nothing_more(gateway: Gateway, receiver: Receiver) -> None:
    secret = generate()
    key = new_key(secret)
    await gateway.house.store.create_key(key)
    made = await ask(gateway, "POST", body={"url": receiver.url}, key=secret.reveal())
    request = gateway.request({})
    request.headers.update({"prefer": "respond-async", "authorization": f"Bearer {secret.reveal()}"})
    await gateway.house.store.revoke_key(key.id, time.time())
    assert (await gateway.client.send(request)).status_code == 202, "a key is believed for seconds"

    async def given_up() -> bool:
        found = await gateway.house.store.list_deliveries(made.json["id"], before=1e11, limit=1)
        return bool(found and found[0].log and "revoked" in found[0].log[-1].reason)

    await eventually(given_up)
    assert not receiver.calls


# Batches


async def test_the_end_of_a_batch_is_told(
    gateway: Gateway, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "SOON", 0.02)
    monkeypatch.setattr(turns, "LATER", 0.05)
    webhook = await registered(gateway, receiver)
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "a canary sings"}]}
    line = json.dumps({"custom_id": "one", "method": "POST", "url": "/v1/chat/completions", "body": asked})
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0) as client:
        file = await client.files.create(file=("in.jsonl", line.encode()), purpose="batch")
        batch = await client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        message = await receiver.verified(webhook["secret"])
        assert message["type"] == "batch.completed"
        assert (message["data"]["id"], message["data"]["status"]) == (batch.id, "completed")
        assert message["data"]["request_counts"] == {"total": 1, "completed": 1, "failed": 0}
        answers = await client.files.content(message["data"]["output_file_id"])
        assert b"Hello there" in answers.content
    assert b"canary" not in receiver.calls[0].body
    assert len(receiver.calls) == 1, "its lines are told by it alone"


async def test_anything_else_is_announced_by_one_call(gateway: Gateway, receiver: Receiver) -> None:
    webhook = await registered(gateway, receiver)
    event = announcer.Event("config-1", "batch.completed", "batch_1", time.time(), {"id": "batch_1", "object": "batch"})
    for _ in range(2):
        await gateway.house.webhooks.announcer.announce(event)
    message = await receiver.verified(webhook["secret"])
    assert (message["type"], message["data"]) == ("batch.completed", {"id": "batch_1", "object": "batch"})
    await delivery(gateway, webhook, "delivered")
    assert len(await deliveries(gateway, webhook)) == 1, "the same event is told once"
