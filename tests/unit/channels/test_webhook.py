"""Alerts posted in Slack's form: what it says, and where it may be posted to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from penstock.channels import webhook
from penstock.channels._tools import Tools
from penstock.errors import AddressRefused, UpstreamError
from penstock.schema.alert import Message
from penstock.schema.alert_section import WebhookSection
from penstock.schema.secret import Secret
from tests.unit.channels.messages import ALERT, firing, resolved
from tests.wire import upstream as upstreams
from tests.wire.upstream import Upstream, answering


@pytest.fixture
async def receiver() -> AsyncIterator[Upstream]:
    async with upstreams.serve(answering({"ok": True}, Connection="close")) as receiver:
        yield receiver


async def tell(section: WebhookSection, message: Message, secret: str = "") -> None:
    channel = webhook.connect(section, Tools(None, "", lambda _: Secret(secret)))  # type: ignore[arg-type]
    try:
        await channel.tell(message, timeout=5)
    finally:
        await channel.aclose()


def inside(receiver: Upstream) -> WebhookSection:
    return WebhookSection(receiver.url + "/hook", allow_networks=["127.0.0.0/8"], allow_http=True)


async def test_slack_and_programs_are_told_in_one_body(receiver: Upstream) -> None:
    await tell(inside(receiver), firing())
    (call,) = receiver.calls
    said = json.loads(call.body)
    assert said["text"] == (
        "[WARNING] slow: summary.error_rate is 0.5 (alert when &gt; 0.05)\ntoo many errors — look at it"
    )
    assert said["attachments"][0]["color"] == "#daa038"
    assert {each["title"] for each in said["attachments"][0]["fields"]} == {
        *("Alert", "Severity", "Metric", "Value", "Since"),
    }
    assert (said["id"], said["event"], said["alert"]["id"]) == ("tell_1", "alert.firing", "alert_1")
    assert call.headers["webhook-id"] == "tell_1"
    assert call.headers["content-type"] == "application/json"


async def test_the_end_is_told_as_that(receiver: Upstream) -> None:
    await tell(inside(receiver), resolved())
    said = json.loads(receiver.calls[0].body)
    assert said["text"].startswith("[RESOLVED] slow")
    assert (said["event"], said["alert"]["status"], said["attachments"][0]["color"]) == (
        *("alert.resolved", "resolved"),
        webhook.OVER,
    )


def test_nobody_is_called_to_by_a_rules_description() -> None:
    said = webhook.body(replace(firing(), alert=replace(ALERT, description="<!channel> <https://evil|a link>")))
    assert "<" not in said["text"]


async def test_an_address_inside_is_refused_unless_it_is_allowed(receiver: Upstream) -> None:
    for section in (
        WebhookSection(receiver.url, allow_http=True),
        WebhookSection("https://169.254.169.254/latest"),
        WebhookSection(receiver.url, allow_networks=["127.0.0.0/8"]),
    ):
        with pytest.raises(AddressRefused):
            await tell(section, firing())
    assert receiver.calls == []


async def test_an_address_that_is_a_secret_comes_from_a_variable_and_shows_in_no_error(receiver: Upstream) -> None:
    receiver.script = answering({"error": "no_service"}, 404, Connection="close")
    section = WebhookSection(url_env="SLACK", allow_networks=["127.0.0.0/8"], allow_http=True)
    with pytest.raises(UpstreamError, match="it answered 404") as failed:
        await tell(section, firing(), receiver.url + "/T000/canary")
    assert "canary" not in str(failed.value)
    assert receiver.calls[0].target.endswith("/T000/canary")
