"""The ``http_client`` section of ``config.yaml``, and how connections to one provider are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from penstock.schema.bounds import require

EXPIRY = 4.0
"""Seconds for which a connection may lie idle: SGLang and uvicorn close theirs after 5."""
SECONDS = "more than 0 and at most 3600 seconds"
MANY = "from 1 to 100000"


class Wire(NamedTuple):
    """Of one provider: requests under way at most, idle connections that are kept and for how many seconds, and the
    seconds that it may be silent in an answer; ``None`` is without end.
    """

    provider: str = ""
    most: int | None = None
    idle: int | None = None
    expiry: float = EXPIRY
    silence: float | None = None


USUAL = Wire()


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Connections to one provider: ``max_connections`` in use at once, ``max_keepalive_connections`` that lie idle, for
    ``keepalive_timeout`` seconds each.
    """

    max_connections: int | None = None
    max_keepalive_connections: int | None = None
    keepalive_timeout: float = EXPIRY

    def __post_init__(self) -> None:
        require("max_connections", self.max_connections is None or 1 <= self.max_connections <= 100_000, MANY)
        idle = self.max_keepalive_connections
        require("max_keepalive_connections", idle is None or 0 <= idle <= 100_000, "from 0 to 100000")
        require("keepalive_timeout", 0 < self.keepalive_timeout <= 3600, SECONDS)


@dataclass(frozen=True, slots=True)
class HttpSection:
    """What holds for providers that say nothing of their own: seconds for a whole answer, for a connection, and of
    silence in an answer.
    """

    timeout: float = 300.0
    connect_timeout: float = 5.0
    read_timeout: float | None = None
    pool_limits: PoolLimits = PoolLimits()

    def __post_init__(self) -> None:
        require("timeout", 0 < self.timeout <= 3600, SECONDS)
        require("connect_timeout", 0 < self.connect_timeout <= 60, "more than 0 and at most 60 seconds")
        require("read_timeout", self.read_timeout is None or 0 < self.read_timeout <= 3600, SECONDS)
