"""A POST of JSON in Slack's form, which Mattermost, Rocket.Chat and Discord (under ``/slack``) take as well.

``text`` says it for people; ``event``, ``id`` and ``alert`` for programs. ``id`` is the same each time that an event is
sent again, and stands in the header ``webhook-id`` too. https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks/
"""

from __future__ import annotations

from typing import Any

from penstock import __version__
from penstock.channels._tools import Tools
from penstock.core.alerts.words import document, facts, subject
from penstock.core.json import to_json
from penstock.core.ports import Outlet
from penstock.errors import AddressRefused, InvalidRequest, UpstreamUnavailable
from penstock.outbound.outlet import GuardedOutlet
from penstock.schema.alert import RESOLVED, Message
from penstock.schema.alert_section import WebhookSection

SECTION = WebhookSection

COLOURS = {"info": "#439fe0", "warning": "#daa038", "error": "#d50200", "critical": "#a30200"}
OVER = "#2eb886"


class WebhookChannel:
    """Posts to one address."""

    def __init__(self, url: str, outlet: Outlet) -> None:
        self._url = url
        self._outlet = outlet

    async def tell(self, message: Message, *, timeout: float) -> None:
        """Post one event. Raises ``UpstreamError``; of the address, which may be a secret, it says nothing."""
        headers = [
            ("content-type", "application/json"),
            ("user-agent", f"Penstock/{__version__}"),
            ("webhook-id", message.id),
        ]
        try:
            reply = await self._outlet.post(self._url, headers, to_json(body(message)), timeout=timeout)
        except InvalidRequest as error:
            raise AddressRefused(error.message) from None
        if reply.status // 100 != 2:
            raise UpstreamUnavailable(f"it answered {reply.status}")

    async def aclose(self) -> None:
        """Let go of every connection."""
        await self._outlet.aclose()


def body(message: Message) -> dict[str, Any]:
    """What is posted."""
    alert = message.alert
    over = message.event == RESOLVED
    line = subject(message)
    known = [{"title": name, "value": value, "short": True} for name, value in facts(message)]
    return {
        "text": _plain(line if not alert.description else f"{line}\n{alert.description}"),
        "attachments": [
            {"color": OVER if over else COLOURS[alert.severity], "fallback": _plain(line), "fields": known}
        ],
        "id": message.id,
        "event": f"alert.{message.event}",
        "timestamp": message.at,
        "alert": document(alert),
    }


def connect(section: WebhookSection, tools: Tools) -> WebhookChannel:
    """The channel of an address, or of the one in a variable."""
    url = section.url or tools.secret(section.url_env or "").reveal()
    return WebhookChannel(url, GuardedOutlet(section.allow_networks, allow_http=section.allow_http))


def _plain(text: str) -> str:
    """The text as Slack shows it as it is: no mention of everybody, no link that a name hides."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
