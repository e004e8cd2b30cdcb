"""A topic of Amazon SNS: text for people who subscribed by mail or phone, attributes for filters and programs.

https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
"""

from __future__ import annotations

from urllib.parse import urlencode

from penstock.channels._amazon import Amazon
from penstock.channels._tools import Tools
from penstock.core.alerts.words import subject, text
from penstock.schema.alert import Message
from penstock.schema.alert_section import SnsSection

SECTION = SnsSection

LONGEST = 100
"""Characters of a subject, of ASCII alone."""


class SnsChannel:
    """Publishes to one topic; a FIFO topic drops what comes twice within five minutes."""

    def __init__(self, topic: str, service: Amazon) -> None:
        self._topic = topic
        self._service = service

    async def tell(self, message: Message, *, timeout: float) -> None:
        """Publish one event. Raises ``UpstreamError``."""
        alert = message.alert
        asked = {
            "Action": "Publish",
            "Version": "2010-03-31",
            "TopicArn": self._topic,
            "Subject": subject(message).encode("ascii", "replace").decode()[:LONGEST],
            "Message": text(message),
        }
        known = {"id": message.id, "event": message.event, "alert_id": alert.id, "rule": alert.rule}
        known |= {"severity": alert.severity, "metric_path": alert.metric_path}
        for number, (name, value) in enumerate(known.items(), 1):
            entry = f"MessageAttributes.entry.{number}"
            asked |= {f"{entry}.Name": name, f"{entry}.Value.DataType": "String", f"{entry}.Value.StringValue": value}
        if self._topic.endswith(".fifo"):
            asked |= {"MessageGroupId": alert.rule, "MessageDeduplicationId": message.id}
        form = "application/x-www-form-urlencoded; charset=utf-8"
        await self._service.post("/", form, urlencode(asked).encode(), timeout=timeout)

    async def aclose(self) -> None:
        """Nothing: the client is closed by whom it belongs to."""


def connect(section: SnsSection, tools: Tools) -> SnsChannel:
    """The channel of a topic, in the region that its name says."""
    return SnsChannel(section.topic_arn, Amazon("sns", "sns", section.region, section.endpoint, tools.client))
