"""Mail of alerts, taken by a real SMTP server in this process, with TLS and a login."""

from __future__ import annotations

import asyncio
import email
import email.policy
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, Session

from penstock.channels import _smtp
from penstock.channels import email as channel_of_mail
from penstock.channels._tools import Tools
from penstock.errors import UpstreamError, UpstreamTimeout
from penstock.schema.alert_section import EmailSection
from penstock.schema.secret import Secret
from tests.ports import free_port
from tests.unit.channels.certificate import make_certificate
from tests.unit.channels.messages import firing, resolved

TOOLS = Tools(None, "", lambda name: Secret("secret-of-" + name))  # type: ignore[arg-type]


class Mailbox:
    """What an SMTP server does with mails: keeps them, unless it is told to refuse them."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], EmailMessage]] = []
        self.refuses = ""
        self.hold = threading.Event()
        self.hold.set()

    async def handle_EHLO(
        self, server: Any, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """Greet, but not before the test lets it."""
        await asyncio.to_thread(self.hold.wait, 10)
        session.host_name = hostname
        return responses

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:
        """Take a mail."""
        assert isinstance(envelope.content, bytes)
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append((envelope.rcpt_tos, mail))
        return self.refuses or "250 OK"

    def authenticate(self, server: Any, session: Session, envelope: Envelope, mechanism: str, given: Any) -> AuthResult:
        """Know one user."""
        known = (given.login, given.password) == (b"penstock", b"secret-of-SMTP_PASSWORD")
        return AuthResult(success=known, handled=known)


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def plain(mailbox: Mailbox) -> Iterator[EmailSection]:
    """The options that lead to a server without TLS."""
    controller = Controller(mailbox, hostname="127.0.0.1", port=free_port())
    controller.start()
    yield EmailSection(["ops@example.com", "b@example.com"], "penstock@example.com", **_at(controller), security="none")
    controller.stop()


@pytest.fixture
def guarded(mailbox: Mailbox, tmp_path: Path) -> Iterator[EmailSection]:
    """The options that lead to a server that wants STARTTLS and a login."""
    certificate, key = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    controller = Controller(
        mailbox,
        hostname="127.0.0.1",
        port=free_port(),
        tls_context=context,
        require_starttls=True,
        auth_required=True,
        authenticator=mailbox.authenticate,
    )
    controller.start()
    login = {"user": "penstock", "password_env": "SMTP_PASSWORD"}
    yield EmailSection(["ops@example.com"], "p@example.com", **_at(controller), ca_file=str(certificate), **login)
    controller.stop()


def _at(controller: Controller) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": controller.port}


async def tell(section: EmailSection, message: Any = None, timeout: float = 10.0) -> None:
    await channel_of_mail.connect(section, TOOLS).tell(message or firing(), timeout=timeout)


async def test_a_mail_says_what_fires_and_why(plain: EmailSection, mailbox: Mailbox) -> None:
    await tell(plain)
    ((to, mail),) = mailbox.mails
    assert to == plain.to
    assert mail["Subject"] == "[WARNING] slow: summary.error_rate is 0.5 (alert when > 0.05)"
    assert (mail["From"], mail["Message-ID"]) == ("penstock@example.com", "<tell_1@example.com>")
    assert mail["Auto-Submitted"] == "auto-generated"
    assert "too many errors — look at it" in mail.get_content()


async def test_the_end_of_an_alert_is_in_the_same_thread(plain: EmailSection, mailbox: Mailbox) -> None:
    await tell(plain)
    await tell(plain, resolved())
    first, last = (mail for _, mail in mailbox.mails)
    assert first["References"] == last["References"]
    assert last["Subject"].startswith("[RESOLVED] slow: summary.error_rate is 0.01")


async def test_a_server_that_wants_tls_and_a_login_is_given_both(guarded: EmailSection, mailbox: Mailbox) -> None:
    await tell(guarded)
    assert len(mailbox.mails) == 1


async def test_a_certificate_that_nobody_vouches_for_is_not_trusted(guarded: EmailSection, mailbox: Mailbox) -> None:
    with pytest.raises(UpstreamError, match="CERTIFICATE_VERIFY_FAILED"):
        await tell(replace(guarded, ca_file=None))
    assert mailbox.mails == []


async def test_a_wrong_password_is_told_and_not_shown(guarded: EmailSection, mailbox: Mailbox) -> None:
    with pytest.raises(UpstreamError, match="535") as failed:
        await tell(replace(guarded, password_env="OTHER"))
    assert "secret-of" not in str(failed.value)
    assert mailbox.mails == []


async def test_a_server_that_takes_no_mail_is_a_failure(plain: EmailSection, mailbox: Mailbox) -> None:
    mailbox.refuses = "452 the disk is full"
    with pytest.raises(UpstreamError, match="the disk is full"):
        await tell(plain)


async def test_a_server_that_is_not_there_is_a_failure(plain: EmailSection) -> None:
    with pytest.raises(UpstreamError, match="took no mail"):
        await tell(replace(plain, port=free_port()))


async def test_a_server_that_says_nothing_is_not_waited_for_long(silent: int, plain: EmailSection) -> None:
    with pytest.raises(UpstreamTimeout, match="did not answer within"):
        await tell(replace(plain, port=silent), timeout=0.1)


async def test_a_mail_that_was_given_up_is_not_sent_after_all(
    plain: EmailSection, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, send = threading.Event(), _smtp.SmtpMailer._send

    def spied(*given: Any) -> None:
        try:
            send(*given)
        finally:
            ended.set()

    monkeypatch.setattr(_smtp.SmtpMailer, "_send", spied)
    mailbox.hold.clear()
    with pytest.raises(UpstreamTimeout):
        await tell(plain, timeout=0.2)
    assert await asyncio.to_thread(ended.wait, 10), "its thread ends while the server still says nothing"
    mailbox.hold.set()
    assert mailbox.mails == []
