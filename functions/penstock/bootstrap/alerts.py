"""Who watches the gateway's numbers, and who tells of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from penstock import plugs
from penstock.channels._tools import Tools
from penstock.core.alerts.desk import AlertDesk
from penstock.core.alerts.rulebook import Rulebook
from penstock.core.alerts.teller import Teller
from penstock.core.alerts.watchman import Watchman
from penstock.core.ports import Channel, Store
from penstock.core.routing.router import Router
from penstock.core.vitals import Vitals
from penstock.errors import SettingsError
from penstock.outbound import HttpClient
from penstock.schema.alert import BUILT_IN, LOG, Rule
from penstock.schema.secret import Secret
from penstock.settings import Settings, fault

if TYPE_CHECKING:
    from penstock.schema.alert_section import ChannelSection, OtherChannel


def build_alerts(settings: Settings, store: Store, client: HttpClient, vitals: Vitals, router: Router) -> AlertDesk:
    """The desk of alerts; who looks for all is settled on the ``router``'s board. Raises ``SettingsError``."""
    assert router.board is not None
    from penstock.schema.alert_section import AlertSection  # noqa: PLC0415 - no part of a start

    section = settings.document.alerts or AlertSection()
    sections = _sections(section.channels, settings)
    tools = Tools(client, settings.region, lambda name: settings.credentials.get(name) or Secret(""))

    def open_channel(name: str) -> Channel | None:
        if name not in sections:
            return None
        kind, options = sections[name]
        channel: Channel = plugs.load("channels", kind).connect(options, tools)
        return channel

    configured: Mapping[str, Rule] = {rule.name: rule for rule in section.rules}
    teller = Teller(store, open_channel, timeout=section.timeout)
    return AlertDesk(
        Rulebook(store, configured, list(sections), BUILT_IN),
        Watchman(store, teller, vitals.read, router.board.take, configured, interval=section.interval),
        teller,
        enabled=section.enabled,
    )


def _sections(channels: ChannelSection, settings: Settings) -> dict[str, tuple[str, Any]]:
    """The type of each channel by its name, and the record of its options."""
    found: dict[str, tuple[str, Any]] = {LOG: (LOG, None)}  # it has no options
    for name in BUILT_IN:
        if name != LOG and (section := getattr(channels, name)) is not None:
            found[name] = name, section
    for name, other in channels.others.items():
        found[name] = other.type, _options(name, other, settings)
    for name, (kind, section) in found.items():
        if kind == "email" and section.via == "ses" and not (section.region or settings.region):
            keys = ["alerts", "channels", *(["others", name, "options"] if name in channels.others else [name])]
            raise fault(settings.source, [*keys, "region"], "SES is in no region: say which, or set AWS_REGION")
    return found


def _options(name: str, other: OtherChannel, settings: Settings) -> Any:
    """The record that the plug makes of a channel's options."""

    def wrong(key: list[int | str], message: str) -> SettingsError:
        return fault(settings.source, ["alerts", "channels", "others", name, *key], message)

    known = plugs.names("channels")
    if other.type not in known:
        raise wrong(["type"], f"{other.type!r} is not known; there are {', '.join(known)}")
    section = plugs.load("channels", other.type).SECTION
    names = [field.name for field in fields(section)]
    for key in other.options:
        if key not in names:
            raise wrong(["options", key], f"type {other.type!r} has no such option; there are {', '.join(names)}")
    try:
        return section(**other.options)
    except (TypeError, ValueError) as error:
        raise wrong(["options"], f"type {other.type!r}: {error}") from None
