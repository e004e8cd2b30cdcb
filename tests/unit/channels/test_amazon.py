"""Alerts told by SES and SNS: what a double of AWS has taken, and what is said of a refusal."""

from __future__ import annotations

import email
import email.policy
from collections.abc import AsyncIterator, Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from moto.ses.models import RawMessage, ses_backends
from moto.sns.models import sns_backends

from penstock.channels import email as channel_of_mail
from penstock.channels import sns
from penstock.channels._tools import Tools
from penstock.errors import UpstreamError
from penstock.outbound import HttpClient
from penstock.schema.alert_section import EmailSection, SnsSection
from penstock.schema.secret import Secret
from tests.unit.channels.messages import firing

TOPIC = "arn:aws:sns:eu-west-1:123456789012:alerts"


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """The address of a double of AWS in this process."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")


@pytest.fixture
async def tools() -> AsyncIterator[Tools]:
    client = HttpClient()
    yield Tools(client, "eu-west-1", lambda _: Secret(""))
    await client.aclose()


def service(name: str, endpoint: str) -> Any:
    return boto3.client(name, region_name="eu-west-1", endpoint_url=endpoint)


async def test_a_topic_is_told_with_attributes_that_filters_can_use(moto: str, tools: Tools) -> None:
    assert service("sns", moto).create_topic(Name="alerts")["TopicArn"] == TOPIC
    await sns.connect(SnsSection(TOPIC, moto), tools).tell(firing(), timeout=10)
    (sent,) = sns_backends["123456789012"]["eu-west-1"].topics[TOPIC].sent_notifications
    _, text, subject, attributes, *_ = sent
    assert subject == "[WARNING] slow: summary.error_rate is 0.5 (alert when > 0.05)"
    assert "too many errors — look at it" in text
    assert attributes["id"]["Value"] == "tell_1"
    assert attributes["severity"]["Value"] == "warning"


async def test_a_topic_that_is_not_there_is_a_failure_that_says_so(moto: str, tools: Tools) -> None:
    section = SnsSection(TOPIC.replace("alerts", "nowhere"), moto)
    with pytest.raises(UpstreamError, match="sns answered 404"):
        await sns.connect(section, tools).tell(firing(), timeout=10)


def ses(endpoint: str) -> EmailSection:
    return EmailSection(["ops@example.com"], "penstock@example.com", via="ses", region="eu-west-1", endpoint=endpoint)


async def test_ses_is_given_the_mail_as_it_is(moto: str, tools: Tools) -> None:
    service("sesv2", moto).create_email_identity(EmailIdentity="penstock@example.com")
    await channel_of_mail.connect(ses(moto), tools).tell(firing(), timeout=10)
    (sent,) = ses_backends["123456789012"]["eu-west-1"].sent_messages
    assert isinstance(sent, RawMessage)
    assert set(sent.destinations) == {"ops@example.com"}
    mail = email.message_from_string(sent.raw_data, policy=email.policy.default)
    assert mail["Message-ID"] == "<tell_1@example.com>"
    assert mail["Subject"].startswith("[WARNING] slow")


async def test_a_sender_that_ses_does_not_know_is_a_failure(moto: str, tools: Tools) -> None:
    stranger = EmailSection(["a@example.com"], "x@nowhere.example", via="ses", region="eu-west-1", endpoint=moto)
    with pytest.raises(UpstreamError, match="ses answered 400"):
        await channel_of_mail.connect(stranger, tools).tell(firing(), timeout=10)
