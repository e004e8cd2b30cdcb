"""The section ``condensation`` of a configuration."""

from __future__ import annotations

from dataclasses import dataclass, field

from penstock.schema.bounds import require
from penstock.schema.model import MODEL_NAME, MODEL_NAMES


@dataclass(frozen=True, slots=True)
class CondensationSection:
    """When and how a conversation is condensed that its provider refuses because of its length.

    One of fewer tokens than ``truncation_threshold`` is not. ``model`` writes the summary, of ``summary_max_tokens``;
    where none is named it is the request's own. The last ``keep_recent`` messages stay as they are. ``cache_size``
    summaries are kept for ``cache_ttl`` seconds, with ``cache_persist`` in the state, for all processes. A refusal that
    holds one of ``error_patterns`` in its code or its words is one of length, besides those that are known.
    """

    enabled: bool = True
    model: str | None = None
    truncation_threshold: int = 2000
    summary_max_tokens: int = 512
    keep_recent: int = 6
    cache_size: int = 1000
    cache_ttl: float = 3600.0
    cache_persist: bool = False
    error_patterns: list[str] = field(default_factory=lambda: ["context_length_exceeded", "token_limit_exceeded"])

    def __post_init__(self) -> None:
        require("model", self.model is None or bool(MODEL_NAME.fullmatch(self.model)), MODEL_NAMES)
        require("truncation_threshold", 0 <= self.truncation_threshold <= 10**7, "from 0 to 10000000 tokens")
        require("summary_max_tokens", 16 <= self.summary_max_tokens <= 100_000, "from 16 to 100000")
        require("keep_recent", 1 <= self.keep_recent <= 1000, "from 1 to 1000 messages")
        require("cache_size", 0 <= self.cache_size <= 10**6, "from 0 to 1000000")
        require("cache_ttl", 1 <= self.cache_ttl <= 30 * 86_400, "from 1 second to 30 days (2592000)")
        require("error_patterns", all(len(each) > 2 for each in self.error_patterns), "of at least 3 characters each")
