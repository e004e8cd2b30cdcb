"""The sections ``caching`` and ``memory`` of a configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from penstock.schema.bounds import require

DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class ResponseCache:
    """Answers are kept for ``ttl`` seconds. They take ``max_size_mb`` of the memory of each process at most, and as
    much of a state that is a file.
    """

    max_size_mb: float = 512
    ttl: float = 300.0
    compression: bool = True

    def __post_init__(self) -> None:
        require("max_size_mb", 0.01 <= self.max_size_mb <= 1_000_000, "from 0.01 to 1000000 megabytes")
        require("ttl", 1 <= self.ttl <= 30 * DAY, "from 1 second to 30 days (2592000)")


@dataclass(frozen=True, slots=True)
class SummaryCache:
    """The same for summaries of conversations."""

    max_size_mb: float = 256
    ttl: float = 3600.0
    compression: bool = True

    def __post_init__(self) -> None:
        require("max_size_mb", 0.01 <= self.max_size_mb <= 1_000_000, "from 0.01 to 1000000 megabytes")
        require("ttl", 1 <= self.ttl <= 30 * DAY, "from 1 second to 30 days (2592000)")


@dataclass(frozen=True, slots=True)
class CachingSection:
    """What was answered is kept in ``backend``: behind the memory of each process the state, Redis, or nothing.

    Keys share answers with none but themselves, with all of their ``owner``, or with ``everyone``. Kept are answers
    that are ``safe`` to repeat and those that a request asks for, or ``all``. While one request brings an answer,
    others for the same wait for it, up to ``wait`` seconds.
    """

    enabled: bool = True
    backend: Literal["state", "memory", "redis"] = "state"
    shared_between: Literal["key", "owner", "everyone"] = "owner"
    answers: Literal["safe", "all"] = "safe"
    wait: float = 30.0
    response_cache: ResponseCache = ResponseCache()
    summary_cache: SummaryCache = SummaryCache()

    def __post_init__(self) -> None:
        require("wait", 0 <= self.wait <= 300, "from 0 to 300 seconds")


@dataclass(frozen=True, slots=True)
class MemorySection:
    """Of the memory that there is: beyond ``gc_threshold_percent`` caches shrink, beyond ``max_usage_percent`` they are
    emptied, and new requests are refused while that does not help. Looked at every ``monitoring_interval`` seconds.

    What has expired is forgotten every ``cache_cleanup_interval`` seconds.
    """

    max_usage_percent: float = 85.0
    gc_threshold_percent: float = 75.0
    monitoring_interval: float = 30.0
    cache_cleanup_interval: float = 300.0

    def __post_init__(self) -> None:
        require("max_usage_percent", 1 <= self.max_usage_percent <= 100, "from 1 to 100")
        low = 0 < self.gc_threshold_percent <= self.max_usage_percent
        require("gc_threshold_percent", low, "more than 0 and at most max_usage_percent")
        require("monitoring_interval", 0.1 <= self.monitoring_interval <= 3600, "from 0.1 to 3600 seconds")
        require("cache_cleanup_interval", 1 <= self.cache_cleanup_interval <= 86_400, "from 1 to 86400 seconds")
