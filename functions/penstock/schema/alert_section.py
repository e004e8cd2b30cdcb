"""The section ``alerts`` of a configuration."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from penstock.schema.alert import BUILT_IN, LOG, NAME, NAMES, Rule, check
from penstock.schema.bounds import NETWORKS, is_network, require

_MAIL = re.compile(r"[^\s@<>,;]+@[^\s@<>,;]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOPIC = re.compile(r"arn:aws[a-z-]*:sns:([a-z0-9-]+):\d{12}:[A-Za-z0-9_.-]{1,256}")
_ENDPOINT = re.compile(r"https?://[^/\s]+/?")
_VARIABLES = "the name of an environment variable"
_ENDPOINTS = "an address such as http://127.0.0.1:4566"


@dataclass(frozen=True, slots=True)
class RuleSection(Rule):
    """A rule that stands in the configuration: nobody changes it over the API."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, slots=True)
class EmailSection:
    """Mail to ``to``, from ``sender``, by an SMTP server or by Amazon SES.

    ``security`` is STARTTLS before anything is said, TLS from the start, or none. ``ca_file`` are certificates that are
    trusted in the place of the system's.
    """

    to: list[str]
    sender: str
    via: Literal["smtp", "ses"] = "smtp"
    host: str = "localhost"
    port: int = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str | None = None
    password_env: str | None = None
    ca_file: str | None = None
    region: str | None = None
    endpoint: str | None = None

    def __post_init__(self) -> None:
        require("to", 0 < len(self.to) <= 50 and all(map(_MAIL.fullmatch, self.to)), "1 to 50 addresses of mail")
        require("sender", bool(_MAIL.fullmatch(self.sender)), "an address of mail")
        require("port", 1 <= self.port <= 65535, "from 1 to 65535")
        require("password_env", self.password_env is None or bool(_VARIABLE.fullmatch(self.password_env)), _VARIABLES)
        require("user", (self.user is None) == (self.password_env is None), "given together with password_env")
        require("security", self.user is None or self.security != "none", "starttls or tls where a password is sent")
        require("endpoint", self.endpoint is None or bool(_ENDPOINT.fullmatch(self.endpoint)), _ENDPOINTS)


@dataclass(frozen=True, slots=True)
class WebhookSection:
    """A POST of JSON that Slack understands, and whoever takes Slack's form. An address that is a secret, as Slack's
    are, stands in the variable ``url_env``.

    Addresses inside are called only where they are in ``allow_networks``, by http only with ``allow_http``.
    """

    url: str | None = field(default=None, repr=False)
    url_env: str | None = None
    allow_networks: list[str] = field(default_factory=list)
    allow_http: bool = False

    def __post_init__(self) -> None:
        require("url", (self.url is None) != (self.url_env is None), "given, or url_env, and not both")
        require("url_env", self.url_env is None or bool(_VARIABLE.fullmatch(self.url_env)), _VARIABLES)
        require("allow_networks", all(map(is_network, self.allow_networks)), NETWORKS)


@dataclass(frozen=True, slots=True)
class SnsSection:
    """A topic of Amazon SNS, published to with the credentials of this process."""

    topic_arn: str
    endpoint: str | None = None

    def __post_init__(self) -> None:
        wanted = "a topic such as arn:aws:sns:eu-west-1:123456789012:alerts"
        require("topic_arn", bool(_TOPIC.fullmatch(self.topic_arn)), wanted)
        require("endpoint", self.endpoint is None or bool(_ENDPOINT.fullmatch(self.endpoint)), _ENDPOINTS)

    @property
    def region(self) -> str:
        """Where the topic is."""
        found = _TOPIC.fullmatch(self.topic_arn)
        assert found is not None
        return found[1]


@dataclass(frozen=True, slots=True)
class OtherChannel:
    """A second channel of a type, or one of a plug that came from elsewhere: its ``options`` are the type's own."""

    type: str
    options: dict[str, str | float | bool | list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChannelSection:
    """Where alerts are told, beside ``log``. ``others`` have names of their own."""

    email: EmailSection | None = None
    webhook: WebhookSection | None = None
    sns: SnsSection | None = None
    others: dict[str, OtherChannel] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require("others", all(map(NAME.fullmatch, self.others)), f"named by {NAMES}")
        require("others", not set(self.others) & set(BUILT_IN), f"named otherwise than {', '.join(BUILT_IN)}")

    @property
    def names(self) -> list[str]:
        """Every channel that can be told something here."""
        built_in = [name for name in BUILT_IN if name == LOG or getattr(self, name) is not None]
        return [*built_in, *self.others]


@dataclass(frozen=True, slots=True)
class AlertSection:
    """Rules, and the channels that are told: looked at every ``interval`` seconds by one of all processes.

    A channel is given ``timeout`` seconds.
    """

    enabled: bool = True
    interval: float = 30.0
    timeout: float = 10.0
    rules: list[RuleSection] = field(default_factory=list)
    channels: ChannelSection = field(default_factory=ChannelSection)

    def __post_init__(self) -> None:
        require("interval", 1 <= self.interval <= 3600, "from 1 to 3600 seconds")
        require("timeout", 1 <= self.timeout <= 15, "from 1 to 15 seconds")
        names = [rule.name for rule in self.rules]
        require("rules", len(set(names)) == len(names), "a list that has each name once")
        known = self.channels.names
        lost = [name for rule in self.rules for name in rule.channels if name not in known]
        require("rules", not lost, f"told to channels that there are: {', '.join(known)}, not {', '.join(lost[:1])}")
