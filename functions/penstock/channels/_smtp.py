"""Mail by an SMTP server: Python's own client, which waits, in a thread of its own."""

from __future__ import annotations

import asyncio
import smtplib
import socket
import ssl
import threading
from contextlib import suppress
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
        """Send a mail to all it is for, or to nobody once ``timeout`` seconds are over. Raises ``UpstreamError``."""
        errand = _Errand(mail)
        try:
            async with asyncio.timeout(timeout):
                await asyncio.to_thread(self._send, errand, timeout)
        except TimeoutError:
            raise UpstreamTimeout(f"{self._section.host} did not answer within {timeout:g} seconds") from None
        except (smtplib.SMTPException, OSError, UnicodeError) as error:
            said = " ".join(str(error).split())[:SHOWN]
            raise UpstreamUnavailable(f"{self._section.host} took no mail: {said}") from None
        finally:
            errand.give_up()

    def _send(self, errand: _Errand, timeout: float) -> None:
        section = self._section
        context = ssl.create_default_context(cafile=section.ca_file) if section.security != "none" else None
        name = socket.gethostname()  # smtplib would look it up, for as long as that takes
        place = (section.host, section.port, name)
        if section.security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(*place, timeout=timeout, context=context)
        else:
            server = smtplib.SMTP(*place, timeout=timeout)
        with server:
            errand.go_on(server)
            if section.security == "starttls":
                server.starttls(context=context)
            if section.user is not None and self._password is not None:
                server.login(section.user, self._password.reveal())
            errand.go_on(server)
            if refused := server.send_message(errand.mail, section.sender, section.to):
                raise smtplib.SMTPRecipientsRefused(refused)


class _Errand:
    """A mail on its way in a thread, which nobody can cancel, but which can find that nobody waits for it any more."""

    def __init__(self, mail: EmailMessage) -> None:
        self.mail = mail
        self._given_up = threading.Event()
        self._server: smtplib.SMTP | None = None

    def go_on(self, server: smtplib.SMTP) -> None:
        """Raise ``TimeoutError`` if nobody waits any more."""
        self._server = server
        if self._given_up.is_set():
            raise TimeoutError

    def give_up(self) -> None:
        """Wait no more: what the thread waits for ends at once."""
        self._given_up.set()
        sock = self._server.sock if self._server is not None else None
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
