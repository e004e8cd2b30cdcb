"""Mail, by an SMTP server or by Amazon SES."""

from __future__ import annotations

from email.message import EmailMessage
from email.utils import formatdate
from typing import Protocol

from penstock.channels._tools import Tools
from penstock.core.alerts.words import subject, text
from penstock.schema.alert import Message
from penstock.schema.alert_section import EmailSection

SECTION = EmailSection


class Mailer(Protocol):
    """Carries mail."""

    async def send(self, mail: EmailMessage, *, timeout: float) -> None:
        """Send a mail, within ``timeout`` seconds. Raises ``UpstreamError``."""
        ...


class EmailChannel:
    """Writes mails to the same people. One that is sent again has the same ``Message-ID``, which mailboxes know."""

    def __init__(self, section: EmailSection, mailer: Mailer) -> None:
        self._section = section
        self._mailer = mailer

    async def tell(self, message: Message, *, timeout: float) -> None:
        """Send one mail. Raises ``UpstreamError``."""
        await self._mailer.send(self.mail(message), timeout=timeout)

    async def aclose(self) -> None:
        """Nothing: each mail has a connection of its own."""

    def mail(self, message: Message) -> EmailMessage:
        """The mail about one event; all mails of one alert are one thread."""
        mail, domain = EmailMessage(), self._section.sender.rpartition("@")[2]
        mail["From"] = self._section.sender
        mail["To"] = ", ".join(self._section.to)
        mail["Subject"] = subject(message)
        mail["Date"] = formatdate(message.at, usegmt=True)
        mail["Message-ID"] = f"<{message.id}@{domain}>"
        mail["References"] = f"<{message.alert.id}@{domain}>"
        mail["X-Penstock-Alert"] = message.alert.id
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(text(message) + "\n", cte="quoted-printable")
        return mail


def connect(section: EmailSection, tools: Tools) -> EmailChannel:
    """The channel with what carries its mails."""
    if section.via == "ses":
        from penstock.channels._ses import SesMailer  # noqa: PLC0415

        return EmailChannel(section, SesMailer(section, tools))
    from penstock.channels._smtp import SmtpMailer  # noqa: PLC0415

    password = tools.secret(section.password_env) if section.password_env else None
    return EmailChannel(section, SmtpMailer(section, password))
