"""Mail by an SMTP server: Python's own client, which waits, in a thread of its own."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from email.message import EmailMessage

from penstock.errors import UpstreamTimeout, UpstreamUnavailable
from penstock.schema.alert_section import EmailSection
from penstock.schema.secret import Secret

SHOWN = 200
"""Characters of an error that are passed on."""


class SmtpMailer:
    """Opens a connection for each mail: there are few of them."""

    def __init__(self, section: EmailSection, password: Secret | None) -> None:
        self._section = section
        self._password = password

    async def send(self, mail: EmailMessage, *, timeout: float) -> None:
        """Send a mail to all it is for. Raises ``UpstreamError``."""
        try:
            await asyncio.to_thread(self._send, mail, timeout)
        except TimeoutError:
            raise UpstreamTimeout(f"{self._section.host} did not answer within {timeout:g} seconds") from None
        except (smtplib.SMTPException, OSError, ssl.SSLError, UnicodeError) as error:
            said = " ".join(str(error).split())[:SHOWN]
            raise UpstreamUnavailable(f"{self._section.host} took no mail: {said}") from None

    def _send(self, mail: EmailMessage, timeout: float) -> None:
        section = self._section
        context = ssl.create_default_context(cafile=section.ca_file) if section.security != "none" else None
        if section.security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(section.host, section.port, timeout=timeout, context=context)
        else:
            server = smtplib.SMTP(section.host, section.port, timeout=timeout)
        with server:
            if section.security == "starttls":
                server.starttls(context=context)
            if section.user is not None and self._password is not None:
                server.login(section.user, self._password.reveal())
            if refused := server.send_message(mail, section.sender, section.to):
                raise smtplib.SMTPRecipientsRefused(refused)
