"""The routes of webhooks on a real socket: bounds, secrets, whose they are, the log, and where they may be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from standardwebhooks import Webhook as Standard
from standardwebhooks import WebhookVerificationError

from penstock.core.webhooks import courier
from tests.wire import gateway as gateways
from tests.wire import receiver as receivers
from tests.wire.gateway import Gateway, eventually
from tests.wire.receiver import (
    ALLOWED,
    Json,
    Receiver,
    another_key,
    ask,
    deliveries,
    delivery,
    hurry,
    registered,
    run_one,
    submit,
)
from tests.wire.upstream import Upstream, answering, completion


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


# Bounds


async def test_a_key_has_only_so_many_webhooks(gateway: Gateway, receiver: Receiver) -> None:
    made = await asyncio.gather(*(ask(gateway, "POST", body={"url": receiver.url}) for _ in range(6)))
    assert sorted(reply.status for reply in made) == [201, 201, 201, 400, 400, 400]
    assert len((await ask(gateway, "GET")).json["data"]) == 3


async def test_beyond_its_backlog_nothing_waits_for_a_webhook(
    gateway: Gateway, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.house.webhooks.announcer, "_backlog", 1)
    receiver.answers, receiver.headers = [503], {"Retry_After": "3600"}
    webhook = await registered(gateway, receiver)
    await submit(gateway)
    await receiver.upstream.call()
    await submit(gateway)
    over = await delivery(gateway, webhook, "failed")
    assert [said["reason"] for said in over["tries"]] == ["not sent: 1 others wait for this webhook"]
    again = (await ask(gateway, "POST", f"/deliveries/{over['id']}/redeliver")).json
    assert again["status"] == "delivered"


async def test_one_that_is_away_holds_up_nobody(
    gateway: Gateway, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "REST", 60.0)
    receiver.answers = [503]
    away, well = await registered(gateway, receiver), await registered(gateway, receiver, events=["job.failed"])
    await submit(gateway)
    await receiver.upstream.call()
    await run_one(gateway)

    async def put_off() -> bool:
        waiting = await deliveries(gateway, away)
        return len(waiting) == 2 and waiting[0]["next_try_at"] > time.time() + 50

    await eventually(put_off)
    assert (await deliveries(gateway, away))[0]["tries"] == [], "a try that was not made does not count"
    assert (await ask(gateway, "POST", f"/{well['id']}/test")).json["status"] == "delivered"


# Secrets


async def test_a_secret_is_shown_once_and_lies_in_no_other_answer(gateway: Gateway, receiver: Receiver) -> None:
    made = await ask(gateway, "POST", body={"url": receiver.url, "description": "mine"})
    secret = made.json["secret"]
    assert secret.startswith("whsec_")
    assert made.headers["cache-control"] == "no-store"
    mine = f"/{made.json['id']}"
    for method, path in (("GET", ""), ("GET", mine), ("POST", f"{mine}/test"), ("GET", f"{mine}/deliveries")):
        assert secret.encode() not in (await ask(gateway, method, path)).body
    assert secret not in repr(await gateway.house.store.load_webhooks("config-1"))


async def test_after_a_rotation_both_secrets_sign_until_the_grace_is_over(gateway: Gateway, receiver: Receiver) -> None:
    webhook = await registered(gateway, receiver)
    rotated = await ask(gateway, "POST", f"/{webhook['id']}/rotate", {"grace_seconds": 60})
    assert rotated.headers["cache-control"] == "no-store"
    assert rotated.json["secret"] != webhook["secret"]
    assert rotated.json["rotation_ends_at"] > time.time()
    await ask(gateway, "POST", f"/{webhook['id']}/test")
    assert len(receiver.calls[0].headers["webhook-signature"].split(" ")) == 2
    for secret in (webhook["secret"], rotated.json["secret"]):
        assert (await receiver.verified(secret))["type"] == "webhook.test"
    last = (await ask(gateway, "POST", f"/{webhook['id']}/rotate", {"grace_seconds": 0})).json
    await ask(gateway, "POST", f"/{webhook['id']}/test")
    await receiver.verified(last["secret"], 1)
    with pytest.raises(WebhookVerificationError):
        Standard(rotated.json["secret"]).verify(receiver.calls[1].body, receiver.calls[1].headers)


# Whose they are


async def test_webhooks_are_nobody_elses(gateway: Gateway, receiver: Receiver) -> None:
    webhook = await registered(gateway, receiver)
    tested = (await ask(gateway, "POST", f"/{webhook['id']}/test")).json
    stranger = await another_key(gateway)
    assert (await ask(gateway, "GET", key=stranger)).json["data"] == []
    mine = f"/{webhook['id']}"
    for method, path, body in (
        *(("GET", mine, None), ("PATCH", mine, {"description": "his"}), ("DELETE", mine, None)),
        *(("POST", f"{mine}/rotate", None), ("POST", f"{mine}/test", None), ("GET", f"{mine}/deliveries", None)),
        ("POST", f"/deliveries/{tested['id']}/redeliver", None),
    ):
        refused = await ask(gateway, method, path, body, key=stranger)
        assert (refused.status, refused.error["code"]) == (404, "not_found"), (method, path)
    assert (await ask(gateway, "GET", mine)).json == {k: v for k, v in webhook.items() if k != "secret"}
    assert len(receiver.calls) == 1


async def test_a_webhook_is_changed(gateway: Gateway, receiver: Receiver) -> None:
    webhook = await registered(gateway, receiver)
    changed = (
        await ask(gateway, "PATCH", f"/{webhook['id']}", {"events": ["job.failed", "job.failed"], "description": "x"})
    ).json
    assert (changed["events"], changed["description"], changed["url"]) == (["job.failed"], "x", receiver.url)
    assert (await ask(gateway, "GET", f"/{webhook['id']}")).json == changed


# The log


async def test_a_delivery_is_sent_again_under_the_same_name(gateway: Gateway, receiver: Receiver) -> None:
    webhook = await registered(gateway, receiver)
    await submit(gateway)
    done = await delivery(gateway, webhook, "delivered")
    again = (await ask(gateway, "POST", f"/deliveries/{done['id']}/redeliver")).json
    assert (again["status"], len(again["tries"])) == ("delivered", 2)
    assert len({call.headers["webhook-id"] for call in receiver.calls}) == 1
    assert len(receiver.calls) == 2


async def test_what_is_being_sent_is_not_sent_beside(gateway: Gateway, receiver: Receiver) -> None:
    receiver.hold = asyncio.Event()
    webhook = await registered(gateway, receiver)
    testing = asyncio.ensure_future(ask(gateway, "POST", f"/{webhook['id']}/test"))
    await receiver.upstream.call()
    (under_way,) = await deliveries(gateway, webhook)
    refused = await ask(gateway, "POST", f"/deliveries/{under_way['id']}/redeliver")
    assert (refused.status, refused.error["code"]) == (409, "delivery_under_way")
    receiver.hold.set()
    assert (await testing).json["status"] == "delivered"


async def test_the_log_is_read_from_the_newest_in_pages(gateway: Gateway, receiver: Receiver) -> None:
    webhook = await registered(gateway, receiver)
    made = [(await ask(gateway, "POST", f"/{webhook['id']}/test")).json["id"] for _ in range(3)]
    page = await deliveries(gateway, webhook, "?limit=2")
    assert [one["id"] for one in page] == made[:0:-1]
    rest = await deliveries(gateway, webhook, f"?before={page[-1]['created_at']!r}")
    assert [one["id"] for one in rest] == made[:1]


# Where they may be


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "url"),
        ({"url": "nowhere"}, "url"),
        ({"url": "ftp://example.com/"}, "url"),
        ({"url": "http://169.254.169.254/latest/meta-data/"}, "url"),
        ({"url": "http://[::ffff:10.0.0.1]/"}, "url"),
        ({"url": "http://2130706433/"}, "url"),
        ({"url": "https://example.com/", "events": []}, "events"),
        ({"url": "https://example.com/", "events": ["job.started"]}, "events.0"),
        ({"url": "https://example.com/", "secret": "mine"}, "secret"),
        ({"url": "https://example.com/", "description": "x" * 501}, "description"),
    ],
)
async def test_what_cannot_be_meant_is_refused(gateway: Gateway, body: Json, param: str) -> None:
    refused = await ask(gateway, "POST", body=body)
    assert (refused.status, refused.error["param"]) == (400, param)


async def test_a_change_leads_no_webhook_inside(gateway: Gateway, receiver: Receiver) -> None:
    webhook = await registered(gateway, receiver)
    refused = await ask(gateway, "PATCH", f"/{webhook['id']}", {"url": "http://10.0.0.1/"})
    assert (refused.status, refused.error["param"]) == (400, "url")


async def test_what_was_allowed_once_is_not_called_where_it_is_not_any_more(
    tmp_path: Path, upstream: Upstream, receiver: Receiver
) -> None:
    provider = gateways.provider(upstream.url)
    async with gateways.serve(tmp_path, provider, sections=ALLOWED) as gateway:
        webhook = await registered(gateway, receiver)
    async with gateways.serve(tmp_path, provider, sections={"webhooks": {"allow_http": True}}) as gateway:
        refused = await ask(gateway, "POST", body={"url": receiver.url})
        assert "private, local or reserved" in refused.error["message"]
        tested = (await ask(gateway, "POST", f"/{webhook['id']}/test")).json
        assert "private, local or reserved" in tested["tries"][0]["reason"]
    assert not receiver.calls
