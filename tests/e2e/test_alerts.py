"""An alert from end to end: two servers on one state, a provider that fails, a real SMTP server, and a Slack."""

from __future__ import annotations

import email
import email.policy
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope, Session

from tests.e2e.server import Server, chat, wait_for
from tests.e2e.slack import Slack, slack
from tests.ports import free_port

RULE = {
    "name": "provider_fails",
    "metric_path": "providers.vendor.error_rate",
    "condition": ">",
    "threshold": 0.4,
    "severity": "critical",
    "window_minutes": 0.1,
    "cooldown_minutes": 0,
    "channels": ["log", "email", "webhook", "team"],
}


class Mailbox:
    """Takes every mail."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, str]] = []

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:
        """Keep a mail's id and subject."""
        assert isinstance(envelope.content, bytes)
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.mails.append((mail["Message-ID"], mail["Subject"]))
        return "250 OK"


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    box = Mailbox()
    controller = Controller(box, hostname="127.0.0.1", port=free_port())
    controller.start()
    yield box, controller.port
    controller.stop()


def configuration(receiver: Slack, port: int) -> str:
    mail = {"to": ["ops@example.com"], "sender": "gateway@example.com", "host": "127.0.0.1", "port": port}
    hidden = {name: value for name, value in receiver.channel.items() if name != "url"} | {"url_env": "TEAM_URL"}
    section = {
        "interval": 1,
        "rules": [RULE],
        "channels": {
            "email": mail | {"security": "none"},
            "webhook": receiver.channel,
            "others": {"team": {"type": "webhook", "options": hidden}},
        },
    }
    return f"""\
auth: {{api_keys: [test-key]}}
limits: {{enabled: false}}
circuit_breaker: {{failure_threshold: 1000}}
providers:
  - {{name: vendor, type: simulated, models: [echo], options: {{ttft: 0, tokens_per_second: 0}}}}
alerts: {json.dumps(section)}
"""


@pytest.mark.timeout(240)
def test_two_servers_tell_everybody_once_and_the_survivor_of_one_tells_the_end(
    tmp_path: Path, mailbox: tuple[Mailbox, int]
) -> None:
    box, port = mailbox
    with slack() as receiver:
        config = configuration(receiver, port)
        shared = {"PENSTOCK_STATE_URL": f"sqlite:///{tmp_path}/state.db", "TEAM_URL": receiver.channel["url"]}
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
        with Server(tmp_path / "one", config, **shared) as one, Server(tmp_path / "other", config, **shared) as other:
            with other.client() as client:

                def ask(**simulate: int) -> None:
                    client.post("/v1/chat/completions", json=chat(simulate=simulate))

                def listed(status: str) -> list[dict[str, Any]]:
                    ask(**({"error": 503} if status == "firing" else {}))
                    found: list[dict[str, Any]] = client.get("/v1/alerts", params={"status": status}).json()["data"]
                    return [each for each in found if all(n["status"] == "sent" for n in each["notifications"])]

                (fired,) = wait_for(lambda: listed("firing"), "an alert that was told everywhere")
                assert [n["channel"] for n in fired["notifications"]] == RULE["channels"]
                one.process.send_signal(signal.SIGKILL)
                one.process.wait()
                (over,) = wait_for(lambda: listed("resolved"), "its end, told by the survivor")
                assert over["id"] == fired["id"]
            assert receiver.told("provider_fails") == ["alert.firing"] * 2 + ["alert.resolved"] * 2
            assert len({said["id"] for said in receiver.received}) == 4, "two channels lead to this receiver"
            assert [subject.partition(":")[0] for _, subject in box.mails] == [
                *("[CRITICAL] provider_fails", "[RESOLVED] provider_fails"),
            ]
            told = one.err + other.err
            assert told.count('"message":"[CRITICAL] provider_fails') == 1
            assert told.count('"message":"[RESOLVED] provider_fails') == 1
            assert "/services/T000" not in told, "the address in a variable is a secret"
