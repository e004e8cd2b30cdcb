"""Channels of alerts as the configuration has them: secrets by their variables, plugs by their type."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from penstock import plugs, settings
from penstock.bootstrap import build
from penstock.errors import SettingsError
from penstock.house import House
from penstock.schema.alert import BUILT_IN, Alert, Message
from tests.unit.channels.messages import firing

MAIL = "to: [a@example.com], sender: b@example.com"


def house_with(folder: Path, alerts: str, **environ: str) -> House:
    path = folder / "config.yaml"
    path.write_text(f"providers: []\nalerts:\n  {alerts}\n", encoding="utf-8")
    return build(settings.load(environ, config=str(path), state=f"sqlite:///{folder}/state.db"))


@pytest.mark.parametrize(
    ("alerts", "words"),
    [
        ("channels: {webhook: {url_env: HOOK}}", "config.yaml:3: alerts.channels.webhook.url_env: the environment"),
        (f"channels: {{email: {{{MAIL}, user: a, password_env: PASSWORD}}}}", "PASSWORD is not set"),
        (f"channels: {{email: {{{MAIL}, via: ses}}}}", "alerts.channels.email.region: SES is in no region"),
        (f"channels: {{email: {{{MAIL}, user: a}}}}", "user: must be given together with password_env"),
        (
            f"channels: {{email: {{{MAIL}, user: a, password_env: P, security: none}}}}",
            "security: must be starttls or tls where a password is sent",
        ),
        ("channels: {others: {team: {type: webhok}}}", "others.team.type: 'webhok' is not known; there are email, log"),
        ("channels: {others: {team: {type: webhook, options: {uri: x}}}}", "options.uri: type 'webhook' has no such"),
        ("channels: {others: {team: {type: webhook, options: {url_env: HOOK}}}}", "options.url_env: the environment"),
        ("channels: {others: {team: {type: sns, options: {topic_arn: x}}}}", "must be a topic such as arn:aws:sns"),
        ("channels: {others: {team: {type: sns}}}", "topic_arn"),
        ("channels: {others: {log: {type: log}}}", "others: must be named otherwise than log, email"),
    ],
)
def test_a_channel_that_cannot_work_is_told_with_its_place(tmp_path: Path, alerts: str, words: str) -> None:
    with pytest.raises(SettingsError) as failed:
        house_with(tmp_path, alerts)
    assert words in str(failed.value)


def test_every_built_in_type_is_a_plug() -> None:
    assert set(BUILT_IN) <= set(plugs.names("channels"))


@pytest.mark.parametrize("name", plugs.names("channels"))
def test_every_plug_says_what_its_options_are_and_connects(name: str) -> None:
    plug = plugs.load("channels", name)
    assert isinstance(plug.SECTION, type)
    assert callable(plug.connect)


@dataclass(frozen=True)
class PagerSection:
    number: str = ""


class Pager:
    """A stranger's channel."""

    def __init__(self, number: str, told: list[Alert]) -> None:
        self.told = told
        self.number = number

    async def tell(self, message: Message, *, timeout: float) -> None:
        self.told.append(message.alert)

    async def aclose(self) -> None:
        pass


@pytest.fixture
def pager(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Alert]]:
    """A plug from another package."""
    told: list[Alert] = []
    module = ModuleType("stranger_pager")
    module.SECTION = PagerSection  # type: ignore[attr-defined]
    module.connect = lambda section, tools: Pager(section.number, told)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "stranger_pager", module)
    point = EntryPoint("pager", "stranger_pager", "penstock.channels")

    def entry_points(*, group: str, name: str = "pager") -> Any:
        return [point] if (group, name) == ("penstock.channels", "pager") else []

    monkeypatch.setattr(plugs, "entry_points", entry_points)
    return told


async def test_a_strangers_plug_tells_alerts_too(tmp_path: Path, pager: list[Alert]) -> None:
    house = house_with(tmp_path, "channels: {others: {oncall: {type: pager, options: {number: '112'}}}}")
    await house.open()
    channel = house.alerts.teller._open("oncall")
    assert channel is not None
    await channel.tell(firing(), timeout=1)
    assert [alert.rule for alert in pager] == ["slow"]
    await house.close()


async def test_a_second_channel_of_a_type_stands_among_the_others(tmp_path: Path) -> None:
    house = house_with(
        tmp_path, "channels: {others: {team: {type: webhook, options: {url_env: HOOK}}}}", HOOK="https://example.com/x"
    )
    await house.open()
    assert house.alerts.teller._open("team") is not None
    assert house.alerts.teller._open("webhook") is None
    await house.close()


async def test_where_alerts_are_switched_off_nobody_looks(tmp_path: Path) -> None:
    house = house_with(tmp_path, "enabled: false")
    await house.open()
    house.start()
    assert house.alerts.watchman._task is None
    await house.close()
