"""Mail by Amazon SES. https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html"""

from __future__ import annotations

import base64
from email.message import EmailMessage

from penstock.channels._amazon import Amazon
from penstock.channels._tools import Tools
from penstock.core.json import to_json
from penstock.schema.alert_section import EmailSection


class SesMailer:
    """Sends with the credentials of this process; ``sender`` is an identity that SES knows."""

    def __init__(self, section: EmailSection, tools: Tools) -> None:
        self._section = section
        region = section.region or tools.region
        self._service = Amazon("ses", "email", region, section.endpoint, tools.client)

    async def send(self, mail: EmailMessage, *, timeout: float) -> None:
        """Send a mail as it is. Raises ``UpstreamError``."""
        asked = {
            "FromEmailAddress": self._section.sender,
            "Destination": {"ToAddresses": self._section.to},
            "Content": {"Raw": {"Data": base64.b64encode(mail.as_bytes()).decode()}},
        }
        await self._service.post("/v2/email/outbound-emails", "application/json", to_json(asked), timeout=timeout)
