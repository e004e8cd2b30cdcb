"""The section ``webhooks`` of a configuration."""

from __future__ import annotations

from dataclasses import dataclass, field

from penstock.schema.bounds import NETWORKS, is_network, require


@dataclass(frozen=True, slots=True)
class WebhookSection:
    """Where webhooks may be: public addresses by https, and ``allow_networks``; with ``allow_http`` by http as well.

    One is given ``timeout`` seconds to answer. A key may have ``per_key`` of them, and to each of them up to
    ``backlog`` deliveries may wait.
    """

    allow_networks: list[str] = field(default_factory=list)
    allow_http: bool = False
    timeout: float = 20.0
    per_key: int = 10
    backlog: int = 1000

    def __post_init__(self) -> None:
        require("allow_networks", all(map(is_network, self.allow_networks)), NETWORKS)
        require("timeout", 1 <= self.timeout <= 30, "from 1 to 30 seconds")
        require("per_key", 0 <= self.per_key <= 100, "from 0 to 100")
        require("backlog", 1 <= self.backlog <= 100_000, "from 1 to 100000")
